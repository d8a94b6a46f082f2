"""What the rows of a table were not made alike in: a comparison says what the systems differ in only where all else is the same."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from csrerank.experiments.layout import CELL, Cell, Layout
from csrerank.experiments.tables import FIRST_STAGE, Found
from csrerank.metadata import read_sidecar

_ABSENT = "not stated"
_RANKED = ("precision", "scoring", "k")
_RUNS = {"candidates sha256": "the bytes of the candidates' runs", "qrels sha256": "the judgements"}
_HASH = re.compile(r"[0-9a-f]{64}")
Values = dict[str, dict[str, list[str]]]  # track -> value -> the rows that have it
Row = tuple[str, Mapping[str, Any]]  # a system, and what one of its cells states


def unlike(planned: Sequence[Cell], found: Found, layout: Layout) -> list[str]:
    """What the sidecars of a table's rows differ in, beside model and track; nothing where they are alike.

    Of trainings all counts that systems have in common: not texts, policy, lexicons and seed, by which they are told apart; and none of a checkpoint that was
    not trained here.
    """
    # What has a cell or a model made anew, and what they are kept in spite of or is the model's: of cells, of whether a training is told of, and of those that are.
    mended: tuple[list[Row], ...] = [], []
    lasting: tuple[list[Row], ...] = [], [], []
    runs: dict[str, Values] = {name: {} for name in _RUNS}  # name -> track -> value -> rows
    for cell in (cell for cell in planned if (cell.system.name, cell.track.name) in found):
        made, system = read_sidecar(layout.run(cell)) or {}, cell.system.name
        _first_stage(cell, found, layout, runs)
        _add_runs(made, cell.track.name, system, runs)
        inputs, told = made.get(CELL, {}), made.get("training") or {}
        mended[0].append((system, {**{name: inputs.get(name) for name in _RANKED}, **inputs.get("versions", {})}))
        lasting[0].append((system, {"max length": inputs.get("max length"), "device of the ranking": made.get("ranked on")}))
        if not cell.system.checkpoint:
            lasting[1].append((system, {"the training": "stated" if told else None}))
            for rows, stated in zip((mended[1], lasting[2]), _training(told) if told else (), strict=False):
                rows.append((system, {f"{name} of the training": value for name, value in stated.items()}))
    told_of, lasts = ({name: text for rows in groups for name, text in _differing(rows).items()} for groups in (mended, lasting))
    told_of |= {what: text for name, what in _RUNS.items() if (text := _apart(runs[name]))}
    if not lasts and not told_of:
        return []
    whole = "; ".join(f"{what} {text}" for what, text in {**told_of, **lasts}.items())
    but = f", but for {', '.join(lasts)}: it leaves these as they are" if lasts else ""
    return [f"These cells were not all made alike: {whole}. `csrerank reproduce` without `--tables` makes them alike{but}.", ""]


def _training(told: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What another training would have made another model of, and what else one was made with."""
    made_from = told.get("made from", {})
    settings = {name.replace("_", " "): "none" if value is None else value for name, value in made_from.get("settings", {}).items() if name != "seed"}
    found = {name: version.partition("+")[0] for name, version in made_from.get("versions", {}).items()}
    return {name: made_from.get(name) for name in ("base", "encoder")} | settings, found | {"device": told.get("device"), "arithmetic": told.get("precision")}


def _add_runs(made: Mapping[str, Any], track: str, row: str, runs: Mapping[str, Values]) -> None:
    for name, by_track in runs.items():
        by_track.setdefault(track, {}).setdefault(str(made.get(CELL, {}).get(name, _ABSENT)), []).append(row)


def _first_stage(cell: Cell, found: Found, layout: Layout, runs: Mapping[str, Values]) -> None:
    """Take a track's first-stage row in, once."""
    track = cell.track.name
    if (FIRST_STAGE, track) in found and not any(track in by_track for by_track in runs.values()):
        _add_runs(read_sidecar(layout.first_stage(cell.track, cell.stage)) or {}, track, FIRST_STAGE, runs)


def _differing(rows: Sequence[Row]) -> dict[str, str]:
    """Name -> its values with the systems that have each, where these are several; what a row does not state is one."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(name for _, stated in rows for name in stated):
        by_value: dict[str, list[str]] = {}
        for system, stated in rows:
            value = stated.get(name)
            by_value.setdefault(_ABSENT if value is None else str(value), []).append(system)
        if len(by_value) > 1:
            found[name] = ", ".join(f"{value[:12] if _HASH.fullmatch(value) else value} ({_names(systems)})" for value, systems in by_value.items())
    return found


def _apart(by_track: Mapping[str, Mapping[str, list[str]]]) -> str:
    """Tracks whose rows have different values, with the rows that share one; tracks with the same parts stand together."""
    parts: dict[str, list[str]] = {}
    for track, by_value in by_track.items():
        if len(by_value) > 1:
            parts.setdefault(" apart from ".join(_names(rows) for rows in by_value.values()), []).append(track)
    return "; ".join(f"on {', '.join(tracks)} ({rows})" for rows, tracks in parts.items())


def _names(rows: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(rows))
