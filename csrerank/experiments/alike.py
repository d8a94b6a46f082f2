"""What the rows of a table were not made alike in: a comparison says what the systems differ in only where all else is the same."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from csrerank.experiments.layout import CELL, Cell, Layout
from csrerank.experiments.tables import FIRST_STAGE, Found
from csrerank.metadata import read_sidecar

_ABSENT = "not stated"
_RANKED = ("precision", "scoring", "max length", "k")
_RUNS = {"candidates sha256": "the bytes of the candidates' runs", "qrels sha256": "the judgements"}
_HASH = re.compile(r"[0-9a-f]{64}")
Values = dict[str, dict[str, list[str]]]  # what -> its value -> the systems that have it


def unlike(planned: Sequence[Cell], found: Found, layout: Layout) -> list[str]:
    """What the sidecars of a table's rows differ in, beside model and track; nothing where they are alike.

    Of trainings all counts that systems have in common: not texts, policy, lexicons and seed, by which they are told apart; and none of a checkpoint that was
    not trained here.
    """
    mended: Values = {}  # what has a cell or a model made anew
    lasting: Values = {}  # what they are kept in spite of
    runs: dict[str, Values] = {name: {} for name in _RUNS}  # name -> track -> value -> rows
    for cell in (cell for cell in planned if (cell.system.name, cell.track.name) in found):
        made, system = read_sidecar(layout.run(cell)) or {}, cell.system.name
        _first_stage(cell, found, layout, runs)
        _add_runs(made, cell.track.name, system, runs)
        inputs = made.get(CELL, {})
        _add(mended, {name: inputs.get(name) for name in _RANKED} | inputs.get("versions", {}), system)
        _add(lasting, {"device of the ranking": made.get("ranked on")}, system)
        if not cell.system.checkpoint:
            told = made.get("training") or {}
            _add(lasting, {"the training": "stated" if told else None}, system)
            if told:
                _add_training(told, system, mended, lasting)
    lasts, told_of = _differing(lasting), _differing(mended)
    told_of |= {what: text for name, what in _RUNS.items() if (text := _apart(runs[name]))}
    if not lasts and not told_of:
        return []
    whole = "; ".join(f"{what} {text}" for what, text in {**told_of, **lasts}.items())
    but = f", but for {', '.join(lasts)}: models and cells that are there are kept whatever these were" if lasts else ""
    return [f"These cells were not all made alike: {whole}. `csrerank reproduce` without `--tables` makes them alike{but}.", ""]


def _add_training(told: Mapping[str, Any], system: str, mended: Values, lasting: Values) -> None:
    made_from = told.get("made from", {})
    settings = {name.replace("_", " "): "none" if value is None else value for name, value in made_from.get("settings", {}).items() if name != "seed"}
    asked = {name: made_from.get(name) for name in ("base", "encoder")} | settings
    found = {name: version.partition("+")[0] for name, version in made_from.get("versions", {}).items()}
    found |= {"device": told.get("device"), "arithmetic": told.get("precision")}
    for values, stated in ((mended, asked), (lasting, found)):
        _add(values, {f"{name} of the training": value for name, value in stated.items()}, system)


def _add(values: Values, stated: Mapping[str, Any], system: str) -> None:
    for name, value in stated.items():
        values.setdefault(name, {}).setdefault(_ABSENT if value is None else str(value), []).append(system)


def _add_runs(made: Mapping[str, Any], track: str, row: str, runs: Mapping[str, Values]) -> None:
    for name, by_track in runs.items():
        by_track.setdefault(track, {}).setdefault(str(made.get(CELL, {}).get(name, _ABSENT)), []).append(row)


def _first_stage(cell: Cell, found: Found, layout: Layout, runs: Mapping[str, Values]) -> None:
    """Take a track's first-stage row in, once."""
    track = cell.track.name
    if (FIRST_STAGE, track) in found and not any(track in by_track for by_track in runs.values()):
        _add_runs(read_sidecar(layout.first_stage(cell.track, cell.stage)) or {}, track, FIRST_STAGE, runs)


def _differing(values: Values) -> dict[str, str]:
    return {
        name: ", ".join(f"{value[:12] if _HASH.fullmatch(value) else value} ({_names(systems)})" for value, systems in by_value.items())
        for name, by_value in values.items()
        if len(by_value) > 1
    }


def _apart(by_track: Mapping[str, Mapping[str, list[str]]]) -> str:
    """Tracks whose rows have different values, with the rows that share one; tracks with the same parts stand together."""
    parts: dict[str, list[str]] = {}
    for track, by_value in by_track.items():
        if len(by_value) > 1:
            parts.setdefault(" apart from ".join(_names(rows) for rows in by_value.values()), []).append(track)
    return "; ".join(f"on {', '.join(tracks)} ({rows})" for rows, tracks in parts.items())


def _names(rows: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(rows))
