"""Scores in print: one aligned table of several runs, or one line a topic for further computing."""

from collections.abc import Mapping, Sequence

from csrerank.errors import InputError
from csrerank.evaluation.measures import Scores

_SHOWN_TOPICS = 5


def table(rows: Mapping[str, Scores], by_topic: bool = False) -> str:
    """Show the scores of several runs, without a newline at the end.

    :param rows: run name -> its scores; all evaluated with the same measures
    :param by_topic: False for an aligned table, measures as columns, means over the topics of the qrels with 4 decimals;
        True for TSV with the heading ``run topic measure value``, values in full
    InputError: no run, runs with different measures, or a run name that TSV cannot hold.
    """
    if not rows:
        raise InputError("no run to show; give at least one")
    first, *others = rows
    measures = list(rows[first])
    for name in others:
        if list(rows[name]) != measures:
            ours, theirs = ", ".join(measures), ", ".join(rows[name])
            raise InputError(f"run {first!r} was scored with {ours}, but {name!r} with {theirs}; use the same measures")
    return _by_topic(rows) if by_topic else _means(rows, measures)


def remarks(rows: Mapping[str, Scores], topics: str = "topics of the qrels", judgement: str = "judgements") -> list[str]:
    """Say, one line each, which runs lack topics of the qrels and which have topics without judgements; empty if none.

    ``topics`` and ``judgement`` are what a measure calls these.
    """
    lines = []
    for name, scores in rows.items():
        total = max((len(values) for values in scores.values()), default=0)
        if scores.missing:
            lacks = f"{len(scores.missing)} of the {total} {topics} are not in the run and count as 0"
            lines.append(f"{name}: {lacks}: {_some(scores.missing)}")
        if scores.unjudged:
            lines.append(f"{name}: {len(scores.unjudged)} topics of the run have no {judgement} and are ignored: {_some(scores.unjudged)}")
    return lines


def _some(topics: Sequence[str]) -> str:
    return ", ".join(topics[:_SHOWN_TOPICS]) + (", …" if len(topics) > _SHOWN_TOPICS else "")


def _means(rows: Mapping[str, Scores], measures: Sequence[str]) -> str:
    cells = [["run", *measures]]
    cells += [[name, *(f"{scores.mean(measure):.4f}" for measure in measures)] for name, scores in rows.items()]
    widths = [max(len(row[column]) for row in cells) for column in range(len(measures) + 1)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]) for row in cells)


def _by_topic(rows: Mapping[str, Scores]) -> str:
    lines = ["run\ttopic\tmeasure\tvalue"]
    for name, scores in rows.items():
        if any(mark in name for mark in "\t\r\n"):
            raise InputError(f"run name {name!r} holds a tab or a line break; rename the run")
        for measure, values in scores.items():
            lines.extend(f"{name}\t{topic}\t{measure}\t{value}" for topic, value in values.items())
    return "\n".join(lines)
