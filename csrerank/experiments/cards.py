"""Results in model cards: what a matrix measured of a checkpoint, by track."""

import re
from collections.abc import Sequence
from pathlib import Path

from csrerank.errors import InputError
from csrerank.experiments import tables
from csrerank.experiments.candidates import depth
from csrerank.experiments.layout import MEASURE, Cell, Layout, read_scores, scores_of
from csrerank.experiments.scale import SCALES
from csrerank.experiments.systems import CHECKPOINT
from csrerank.files import atomic

_BEGIN, _END = "<!-- csrerank reproduce -->", "<!-- end of csrerank reproduce -->"
_SECTION = re.compile(rf"{_BEGIN}\n.*?{_END}\n+", re.DOTALL)
_LIMITS = re.compile(r"^## Limits$", re.MULTILINE)


def check_card(directory: Path) -> None:
    """Raise ``InputError`` for a directory without a model card of ours."""
    card = directory / "README.md"
    try:
        found = card.is_file() and _LIMITS.search(card.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"{card}: not UTF-8 text; write it as such, or leave --cards out") from None
    if not found:
        raise InputError(f"{card}: no model card with a section Limits, as csrerank train writes it; leave --cards out")


def _shown(system: str) -> str:
    """A checkpoint's card goes where the checkpoint goes, and says nothing of the folder that it lay in."""
    return "this model" if system.startswith(CHECKPOINT) else system


def write_results(directory: Path, measured: Sequence[Cell], layout: Layout) -> Path:
    """Put the results of a model's cells into its card, before *Limits*, in the place of those that it had from here; each beside its first stage."""
    check_card(directory)
    scale, card = SCALES[layout.scale], directory / "README.md"
    rows = [
        f"| {_shown(cell.system.name)} | {cell.track.name} | {cell.stage} | {tables.mean(read_scores(scores_of(layout.first_stage(cell.track, cell.stage)))):.4f} | "
        f"{tables.mean(read_scores(scores_of(layout.run(cell)))):.4f} |"
        for cell in measured
    ]
    section = "\n".join(
        [
            _BEGIN, "## Results", "",
            f"{MEASURE} on {layout.collection}, {scale.topics or 'all'} topics, {depth(layout, scale)} candidates (`csrerank reproduce --scale {layout.scale}`).", "",
            "| system | topics–documents | candidates | first stage | re-ranked |", "|---|---|---|---|---|", *rows, "", _END, "", "",
        ]
    )  # fmt: skip
    text = _SECTION.sub("", card.read_text(encoding="utf-8"))
    start = _LIMITS.search(text)
    assert start is not None
    with atomic(card) as stream:
        stream.write((text[: start.start()] + section + text[start.start() :]).encode())
    return card
