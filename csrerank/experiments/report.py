"""The report: the tables of the cells that are there, as Markdown."""

from collections.abc import Sequence

from csrerank.experiments import tables
from csrerank.experiments.candidates import LISTED, depth, qrels_of
from csrerank.experiments.layout import MEASURE, Cell, Layout, read_scores, scores_of
from csrerank.experiments.overlap import overlap_kinds
from csrerank.experiments.scale import SCALES, Scale
from csrerank.experiments.tracks import Track
from csrerank.metadata import sidecar

_STAGES = {"dense": "our encoder's dense run", "oracle": "the English run carried over (an oracle, as in the paper)"}
_LIST = "mMARCO's own list (an oracle, as in the paper), which has no order, so that there is no first-stage row"


def report(names: Sequence[str], seeds: Sequence[int], stages: Sequence[str], planned: Sequence[Cell], chosen: Sequence[Track], layout: Layout) -> str:
    """The tables of what lies in ``layout``; what was not run says so.

    :param names: the systems' rows.
    """
    scale = SCALES[layout.scale]
    clusters = {track.name: _clusters(track, scale) for track in chosen}
    lines: list[str] = []
    for stage in stages:
        found = _found([cell for cell in planned if cell.stage == stage], chosen, stage, layout)
        lines += [
            f"### Candidates: {_LIST if layout.collection in LISTED else _STAGES[stage]}",
            "",
            f"{MEASURE} x 100, {scale.topics or 'all'} topics, {depth(layout, scale)} candidates, seeds {', '.join(map(str, seeds))}.",
            "",
        ]
        lines += tables.main_table(found, [tables.FIRST_STAGE, *names], chosen)
        made = tables.differences(found, names, chosen, clusters)
        if made:
            lines += ["**Against Zero-shot** (points; resampled by article where topics share articles)", "", *tables.difference_table(made)]
        above = tables.differences(found, names, chosen, clusters, tables.FIRST_STAGE)
        if above:
            lines += ["**Against the first stage** (corrected apart from the table above)", "", *tables.difference_table(above)]
        same = tables.equivalences(found, names, chosen, clusters)
        if same:
            lines += [f"**Does it leave MoIR as it is?** (equivalent within {100 * tables.MARGIN:g} points)", "", *tables.equivalence_table(same)]
        across = [track for track in chosen if track.group.startswith("CLIR")]
        if made and across:
            kinds = {track.name: overlap_kinds(track, scale) for track in across}
            lines += ["**Gain by token overlap** of topic and relevant document, CLIR tracks together", "", *tables.overlap_table(found, names, kinds)]
    return "\n".join(lines)


def _found(planned: Sequence[Cell], chosen: Sequence[Track], stage: str, layout: Layout) -> dict[tuple[str, str], list[tables.Scores]]:
    found: dict[tuple[str, str], list[tables.Scores]] = {}
    named = [(cell.system.name, cell.track.name, layout.run(cell)) for cell in planned]
    named += [(tables.FIRST_STAGE, track.name, layout.first_stage(track, stage)) for track in chosen]
    for system, track, run in named:
        if scores_of(run).exists() and sidecar(run).exists():  # without its sidecar a cell is half made
            found.setdefault((system, track), []).append(read_scores(scores_of(run)))
    return found


def _clusters(track: Track, scale: Scale) -> dict[str, str] | None:
    from csrerank.evaluation.clusters import clusters_of

    return clusters_of(track.dataset, qrels_of(track.dataset, scale.topics))
