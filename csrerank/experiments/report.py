"""The report: the tables of the cells that are there, as Markdown."""

from collections import Counter
from collections.abc import Sequence

from csrerank.experiments import tables
from csrerank.experiments.alike import unlike
from csrerank.experiments.candidates import LISTED, depth, qrels_of
from csrerank.experiments.layout import KEPT, MEASURE, Cell, Layout, read_scores, scores_of
from csrerank.experiments.overlap import overlap_kinds
from csrerank.experiments.scale import SCALES, Scale
from csrerank.experiments.systems import are_trained
from csrerank.experiments.tracks import Track
from csrerank.metadata import sidecar
from csrerank.trec import read_run

_STAGES = {"dense": "our encoder's dense run", "oracle": "the English run carried over (an oracle, as in the paper)"}
_LIST = "mMARCO's own list (an oracle, as in the paper), which has no order, so that there is no first-stage row"


def report(names: Sequence[str], seeds: Sequence[int], stages: Sequence[str], planned: Sequence[Cell], chosen: Sequence[Track], layout: Layout) -> str:
    """The tables of what lies in ``layout``; what was not run says so.

    :param names: the systems' rows.
    """
    scale = SCALES[layout.scale]
    clusters = {track.name: _clusters(track, scale) for track in chosen}
    of_seeds = f", seeds {', '.join(map(str, seeds))}" if are_trained(names) else ""
    lines: list[str] = []
    for stage in stages:
        cells = [cell for cell in planned if cell.stage == stage]
        found, partial = _found(cells, chosen, stage, layout)
        lines += [
            f"### Candidates: {_LIST if layout.collection in LISTED else _STAGES[stage]}",
            "",
            f"{MEASURE} x 100, {scale.topics or 'all'} topics, {depth(layout, scale)} candidates{of_seeds}.",
            "",
        ]
        rows = names if layout.collection in LISTED else [tables.FIRST_STAGE, *names]  # a list has no order to score
        lines += tables.main_table(found, rows, chosen)
        lines += unlike(cells, found, layout)
        if partial:
            lines += [f"Not all seeds are there, so they count as not run: {', '.join(partial)}.", ""]
        swept = tables.sweep_table(found, names, chosen)
        if swept:
            lines += ["**By p**, the share of words that are switched (averages; p = 1 is term-by-term translation, and no upper reference)", "", *swept]
        asked = language_table(found, cells, chosen, layout)
        if asked:
            lines += [f"**Does the language of the question matter?** (the same documents, ranks up to {KEPT}; see fairness.md)", "", *asked]
        made = tables.differences(found, names, chosen, clusters)
        if made:
            lines += ["**Against Zero-shot** (points; resampled by article where topics share articles)", "", *tables.difference_table(made)]
        above = tables.differences(found, names, chosen, clusters, tables.FIRST_STAGE)
        if above:
            lines += ["**Against the first stage** (corrected apart from the table above)", "", *tables.difference_table(above)]
        same = tables.equivalences(found, names, chosen, clusters)
        if same:
            names_of = tables.moir(chosen)
            several = f"; the average is of {', '.join(names_of)}, by topic" if len(names_of) > 1 else ""
            within = f"equivalent within {100 * tables.MARGIN:g} points{several}"
            lines += [f"**Does it leave MoIR as it is?** ({within})", "", *tables.equivalence_table(same)]
        across = [track for track in chosen if track.group.startswith("CLIR")]
        if made and across:
            kinds = {track.name: overlap_kinds(track, scale) for track in across}
            lines += ["**Gain by token overlap** of topic and relevant document, CLIR tracks together", "", *tables.overlap_table(found, names, kinds)]
    return "\n".join(lines)


def _found(planned: Sequence[Cell], chosen: Sequence[Track], stage: str, layout: Layout) -> tuple[dict[tuple[str, str], list[tables.Scores]], list[str]]:
    """(system, track) -> scores, a mapping a seed, where all seeds are there; and those where only some are, in words."""
    found: dict[tuple[str, str], list[tables.Scores]] = {}
    named = [(cell.system.name, cell.track.name, layout.run(cell)) for cell in planned]
    named += [(tables.FIRST_STAGE, track.name, layout.first_stage(track, stage)) for track in chosen]
    for system, track, run in named:
        if scores_of(run).exists() and sidecar(run).exists():  # without its sidecar a cell is half made
            found.setdefault((system, track), []).append(read_scores(scores_of(run)))
    wanted = Counter((system, track) for system, track, _ in named)
    partial = [
        f"{system} {track} ({len(found[system, track])} of {count})"
        for (system, track), count in wanted.items()
        if 0 < len(found.get((system, track), ())) < count
    ]
    return {key: seeds for key, seeds in found.items() if len(seeds) == wanted[key]}, partial


def language_table(found: tables.Found, planned: Sequence[Cell], chosen: Sequence[Track], layout: Layout) -> list[str]:
    """Rank variance over the languages of the question, by language of the documents, where at least two ask for the same; the mean over seeds. Beside it the
    gap between MoIR and CLIR, over all such tracks together.
    """
    from csrerank.evaluation.fairness import clir_gap, consistency

    pairs = [tuple(track.name.split("-")) for track in chosen if not track.group.startswith("MLIR")]
    into = {document: [query for query, other in pairs if other == document] for _, document in pairs}
    lines = []
    for system in dict.fromkeys(cell.system.name for cell in planned):
        values = {
            (query, document): tables.mean(tables.over_seeds(found, system, f"{query}-{document}") or {})
            for query, document in pairs
            if (system, f"{query}-{document}") in found
        }
        whole = values.keys() == set(pairs) and {query == document for query, document in pairs} == {True, False}
        gap = f"{100 * clir_gap(values).absolute:.1f}" if whole else tables.NOT_RUN
        for document, queries in into.items():
            if len(queries) < 2 or not all((query, document) in values for query in queries):
                continue
            track = next(track for track in chosen if track.name == f"{queries[0]}-{document}")
            spreads = [
                consistency(
                    {query: read_run(layout.run(cell)) for query in queries for cell in planned if (cell.system.name, cell.seed, cell.track.name) == (system, seed, f"{query}-{document}")},
                    qrels_of(track.dataset, SCALES[layout.scale].topics), KEPT,
                )
                for seed in dict.fromkeys(cell.seed for cell in planned if cell.system.name == system)
            ]  # fmt: skip
            variance, rr = (sum(getattr(spread, name) for spread in spreads) / len(spreads) for name in ("rank_variance", "rr_variance"))
            lines.append(f"| {system} | {document} | {' '.join(queries)} | {variance:.1f} | {rr:.3f} | {gap} |")
    return (
        ["| system | documents | questions in | variance of rank | variance of RR | MoIR − CLIR of all, points |", "|---" * 6 + "|", *lines, ""]
        if lines
        else []
    )


def _clusters(track: Track, scale: Scale) -> dict[str, str] | None:
    from csrerank.evaluation.clusters import clusters_of

    return clusters_of(track.dataset, qrels_of(track.dataset, scale.topics))
