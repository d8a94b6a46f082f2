"""The paper's tables out of a matrix: one row a system, one column a track, averages by group; differences to Zero-shot and to the first stage with their
uncertainty; gain by token overlap.
"""

from collections.abc import Mapping, Sequence
from math import fsum
from statistics import stdev
from typing import NamedTuple

from csrerank.errors import InputError
from csrerank.evaluation.equivalence import Equivalence, equivalent, power
from csrerank.evaluation.significance import Comparison, averaged, compared, corrected
from csrerank.experiments.systems import BASELINE, CHECKPOINT
from csrerank.experiments.tracks import GROUPS, Track

NOT_RUN = "*not run*"
FIRST_STAGE = "first stage"
MARGIN = 0.015
DECIDABLE = 0.5  # power below which an inconclusive test says nothing
UNDECIDABLE = "not decidable at this size"
OVERLAPS = ("none", "1 to 3", "more")
Scores = Mapping[str, float]  # topic -> RR@10
Found = Mapping[tuple[str, str], Sequence[Scores]]  # (system, track) -> scores, one mapping a seed


class Difference(NamedTuple):
    """A system against another on one track, or on a group's tracks averaged by topic; ``holm`` and ``bonferroni`` are the t-test's p, corrected over the
    table."""

    system: str
    what: str
    comparison: Comparison
    holm: float
    bonferroni: float


class Same(NamedTuple):
    """An equivalence test of a system on ``what``: a track, or a group's average. ``p`` is corrected by Holm over the table; ``power``, of two equal runs, is at the
    level of Holm's first step, the strictest; the verdict is by both.
    """

    system: str
    what: str
    test: Equivalence
    p: float
    power: float
    verdict: str


def mean(scores: Scores) -> float:
    """The mean over topics."""
    return fsum(scores.values()) / len(scores)


def over_seeds(found: Found, system: str, track: str) -> Scores | None:
    """A cell's scores with its seeds averaged within topics; None where it was not run."""
    seeds = found.get((system, track))
    return averaged(seeds).values if seeds else None


def over_tracks(found: Found, system: str, tracks: Sequence[str]) -> Scores | None:
    """The mean over tracks by topic, for parallel topics; None where a track was not run. Raises ``InputError`` where the tracks' topics differ."""
    cells = [over_seeds(found, system, track) for track in tracks]
    if not cells or any(cell is None for cell in cells):
        return None
    known = [cell for cell in cells if cell is not None]
    for name, cell in zip(tracks, known, strict=True):
        odd = sorted(cell.keys() ^ known[0].keys())
        if odd:
            raise InputError(
                f"{system}: tracks {tracks[0]} and {name} have different topics ({len(odd)} of them, such as {odd[0]!r}) and have no average by topic; "
                "make their cells anew with csrerank reproduce, or name tracks with the same topics"
            )
    return {topic: fsum(cell[topic] for cell in known) / len(known) for topic in known[0]}


def main_table(found: Found, systems: Sequence[str], tracks: Sequence[Track]) -> list[str]:
    """RR@10 x 100 by system and track, group by group, with the group's average; several seeds show the spread of their means. What was not run says so."""
    lines = []
    for group in (group for group in GROUPS if any(track.group == group for track in tracks)):
        names = [track.name for track in tracks if track.group == group]
        lines += [f"**{group}**", "", "| system | " + " | ".join(names) + " | average |", "|---" * (len(names) + 2) + "|"]
        for system in systems:
            cells = [over_seeds(found, system, name) for name in names]
            shown = [_shown(cell, found.get((system, name))) for cell, name in zip(cells, names, strict=True)]
            lines.append(f"| {system} | " + " | ".join([*shown, _average(found, system, names)]) + " |")
        lines.append("")
    return lines


def _average(found: Found, system: str, names: Sequence[str]) -> str:
    """The mean over tracks, and the spread of it over seeds."""
    runs = [found.get((system, name), ()) for name in names]
    if not all(runs):
        return NOT_RUN
    value = fsum(fsum(map(mean, seeds)) / len(seeds) for seeds in runs) / len(runs)
    by_seed = [fsum(map(mean, seeds)) / len(names) for seeds in zip(*runs, strict=True)] if len({len(seeds) for seeds in runs}) == 1 else []
    return f"{100 * value:.1f}" + (f" ± {100 * stdev(by_seed):.1f}" if len(by_seed) > 1 else "")


def _shown(cell: Scores | None, seeds: Sequence[Scores] | None) -> str:
    if cell is None or not seeds:
        return NOT_RUN
    spread = averaged(seeds).spread
    return f"{100 * mean(cell):.1f}" + (f" ± {100 * spread:.1f}" if spread is not None else "")


def differences(
    found: Found, systems: Sequence[str], tracks: Sequence[Track], clusters: Mapping[str, Mapping[str, str] | None], baseline: str = BASELINE
) -> list[Difference]:
    """Every system against ``baseline``, on every track, and averaged by topic on every group and on all tracks; p corrected over all of these.

    What is corrected is the t-test over clusters: a randomisation test's p has a floor (1 in its draws), which a correction over many would lift above any level.

    :param clusters: track -> topic -> article, None where topics share none.
    """
    made: dict[tuple[str, str], Comparison] = {}
    groups = {group: [track.name for track in tracks if track.group == group] for group in GROUPS}
    parts = {**{track.name: [track.name] for track in tracks}, **{f"{group} average": names for group, names in groups.items() if len(names) > 1}}
    if sum(bool(names) for names in groups.values()) > 1:
        parts["average of all"] = [track.name for track in tracks]
    for system in systems:
        if system in (baseline, FIRST_STAGE):
            continue
        for what, names in parts.items():
            ours, theirs = over_tracks(found, system, names), over_tracks(found, baseline, names)
            if ours is not None and theirs is not None:
                made[system, what] = compared(ours, theirs, _of(clusters[names[0]], ours))
    plain = {f"{system}\x1f{what}": comparison.p.t for (system, what), comparison in made.items()}
    holm, bonferroni = corrected(plain), corrected(plain, "bonferroni")
    return [Difference(system, what, comparison, holm[f"{system}\x1f{what}"], bonferroni[f"{system}\x1f{what}"]) for (system, what), comparison in made.items()]


def _of(clusters: Mapping[str, str] | None, scores: Scores) -> dict[str, str] | None:
    if not clusters:
        return None
    odd = next((topic for topic in scores if topic not in clusters), None)
    if odd is not None:
        raise InputError(f"topic {odd!r} of the cells is not one of the track's at this scale; make the cells anew with csrerank reproduce")
    return {topic: clusters[topic] for topic in scores}


def shown_p(p: float) -> str:
    """A p-value to four places."""
    return "< .0001" if p < 0.0001 else f"{p:.4f}"


def difference_table(found: Sequence[Difference]) -> list[str]:
    """Differences in points of RR@10 x 100."""
    lines = [
        "| system | on | difference | 95 % interval | effect d | p (t) | p (randomisation) | p (t), topics alone | p, Holm | p, Bonferroni |",
        "|---" * 10 + "|",
    ]
    for system, what, comparison, holm, bonferroni in found:
        alone = (comparison.p_by_topic or comparison.p).t
        ps = " | ".join(map(shown_p, (comparison.p.t, comparison.p.randomisation, alone, holm, bonferroni)))
        interval = f"{100 * comparison.low:+.1f} to {100 * comparison.high:+.1f}"
        lines.append(f"| {system} | {what} | {100 * comparison.difference:+.1f} | {interval} | {comparison.effect:.2f} | {ps} |")
    return [*lines, ""]


def moir(tracks: Sequence[Track]) -> list[str]:
    """The tracks of the equivalence test: MoIR in seen languages."""
    return [track.name for track in tracks if track.group == "MoIR seen"]


def equivalences(found: Found, systems: Sequence[str], tracks: Sequence[Track], clusters: Mapping[str, Mapping[str, str] | None]) -> list[Same]:
    """Whether a system leaves MoIR as it is: two one-sided tests over ``moir(tracks)`` averaged by topic, and over en-en alone, p corrected over all of these."""
    names = moir(tracks)
    parts = {name: [name] for name in names if name == "en-en" or len(names) == 1} | ({"average": names} if len(names) > 1 else {})
    made = {}
    for system in (system for system in systems if system not in (BASELINE, FIRST_STAGE)):
        for what, part in parts.items():
            ours, theirs = over_tracks(found, system, part), over_tracks(found, BASELINE, part)
            if ours is not None and theirs is not None:
                made[system, what] = equivalent(ours, theirs, _of(clusters[part[0]], ours), MARGIN)
    within = corrected({chr(31).join(key): max(test.p_lower, test.p_upper) for key, test in made.items()})
    apart = corrected({chr(31).join(key): _p_of_none(test) for key, test in made.items()})
    same = []
    for (system, what), test in made.items():
        key = f"{system}{chr(31)}{what}"
        reached = power(test.margin, test.se, test.df, test.alpha / len(made))
        verdict = (
            "equivalent" if within[key] < test.alpha else "different" if apart[key] < test.alpha else "inconclusive" if reached >= DECIDABLE else UNDECIDABLE
        )
        same.append(Same(system, what, test, within[key], reached, verdict))
    return same


def _p_of_none(test: Equivalence) -> float:
    """Two-sided p of no difference at all."""
    from scipy.stats import t

    return float(2 * t.sf(abs(test.difference) / test.se, test.df)) if test.se else float(test.difference == 0)


def equivalence_table(found: Sequence[Same]) -> list[str]:
    """One line a test."""
    lines = ["| system | on | difference | 90 % interval | p | p, Holm | power at no difference | verdict |", "|---" * 8 + "|"]
    for system, what, test, adjusted, reached, verdict in found:
        interval = f"{100 * test.low:+.1f} to {100 * test.high:+.1f}"
        ps = f"{shown_p(max(test.p_lower, test.p_upper))} | {shown_p(adjusted)}"
        lines.append(f"| {system} | {what} | {100 * test.difference:+.1f} | {interval} | {ps} | {reached:.2f} | {verdict} |")
    return [*lines, ""]


def sweep_table(found: Found, systems: Sequence[str], tracks: Sequence[Track]) -> list[str]:
    """Averages by group for each p of the systems of which several p are asked; a plain name is p = .5. Nothing where there is none."""
    by_base: dict[str, dict[float, str]] = {}
    for system in (system for system in systems if not system.startswith(CHECKPOINT)):
        base, at, written = system.partition("@")
        by_base.setdefault(base, {})[float(written) if at else 0.5] = system
    groups = {group: [track.name for track in tracks if track.group == group] for group in GROUPS}
    shown = [group for group, names in groups.items() if names]
    lines = []
    for base, by_share in by_base.items():
        for share, system in sorted(by_share.items()) if len(by_share) > 1 else ():
            cells = [over_tracks(found, system, groups[group]) for group in shown]
            lines.append(f"| {base} | {share:g} | " + " | ".join(NOT_RUN if cell is None else f"{100 * mean(cell):.1f}" for cell in cells) + " |")
    return ["| system | p | " + " | ".join(shown) + " |", "|---" * (len(shown) + 2) + "|", *lines, ""] if lines else []


def overlap_kind(query: set[str], document: set[str]) -> str:
    """How many words a topic shares with a relevant document: ``none``, ``1 to 3`` or ``more``."""
    shared = len(query & document)
    return OVERLAPS[0] if not shared else OVERLAPS[1] if shared <= 3 else OVERLAPS[2]


def overlap_table(found: Found, systems: Sequence[str], kinds: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Gain over Zero-shot by token overlap, all tracks together; a system that was not run on all of them says so.

    :param kinds: track -> topic -> kind of overlap with its relevant documents.
    """
    lines = ["| system | overlap | topics × tracks | Zero-shot | gain |", "|---|---|---|---|---|"]
    for system in (system for system in systems if system not in (BASELINE, FIRST_STAGE)):
        cells = [(over_seeds(found, system, track), over_seeds(found, BASELINE, track), of_topic) for track, of_topic in kinds.items()]
        if any(ours is None or theirs is None for ours, theirs, _ in cells):
            lines.append(f"| {system} | all | {NOT_RUN} | {NOT_RUN} | {NOT_RUN} |")
            continue
        for kind in OVERLAPS:
            pairs = [(ours[topic], theirs[topic]) for ours, theirs, of_topic in cells if ours and theirs for topic in ours if of_topic.get(topic) == kind]
            if pairs:
                before = fsum(their for _, their in pairs) / len(pairs)
                lines.append(f"| {system} | {kind} | {len(pairs)} | {100 * before:.1f} | {100 * (fsum(our for our, _ in pairs) / len(pairs) - before):+.1f} |")
    return [*lines, ""]
