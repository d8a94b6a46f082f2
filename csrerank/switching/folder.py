"""The output folder of a job: locked while it is written, refused where another job made it, and searched for shards that are there already."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from csrerank.errors import InputError
from csrerank.files import atomic
from csrerank.switching.formats import FORMATS
from csrerank.switching.job import SIDES, Shard
from csrerank.switching.shards import NOTES, note_name

MANIFEST = "manifest.json"
_SETTINGS, _LOCK = "settings.json", "lock"
_NOTE = "*-part-*.json"
_OWN = (_SETTINGS, MANIFEST, _NOTE, "*.tries", ".csrerank-*.tmp", _LOCK)  # what csrerank puts among the notes
_SHARDS = (*(f"part-*.{ending}" for ending in FORMATS), ".csrerank-*.tmp")


@contextmanager
def claimed(output: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Hold the folder (made if need be) for a job with these settings; what stays unfinished keeps its notes. Nothing is removed but what csrerank writes.

    Raises ``InputError`` naming the first setting that differs where another job made the folder, where something else lies in it, and where a job is writing to it
    now.
    """
    notes = output / NOTES
    try:
        notes.mkdir(parents=True, exist_ok=True)
        lock = open(notes / _LOCK, "ab")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror}); give another --output") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = os.path.samestat(os.fstat(lock.fileno()), os.stat(notes / _LOCK))
        except (BlockingIOError, FileNotFoundError):
            alone = False
        except OSError as error:
            raise InputError(f"{notes / _LOCK}: cannot be locked ({error.strerror}); give an --output on a file system that has locks") from None
        if not alone:
            raise InputError(f"{output}: another job is writing here; wait for it, or give another --output")
        try:
            _check(output, settings)
            yield
        except BaseException:
            if not _noted(notes):  # it got nowhere: a mended command, with other settings, is not to be refused for it
                _clear(output)
            raise
        _sweep(output)
        _remove(notes, _OWN)


def set_aside(output: Path) -> None:
    """Move a finished folder's manifest among the notes, so that no folder has one while it is mended."""
    with suppress(FileNotFoundError):
        (output / MANIFEST).replace(output / NOTES / MANIFEST)


def _noted(notes: Path) -> list[Path]:
    return list(notes.glob(_NOTE))


def _clear(output: Path) -> None:
    """Take away what a job without a note left, and give back the manifest of a folder that it was to mend."""
    notes = output / NOTES
    if (notes / MANIFEST).exists() and not (output / MANIFEST).exists():
        (notes / MANIFEST).replace(output / MANIFEST)
    if (notes / _SETTINGS).exists() and not (output / MANIFEST).exists():
        _remove_shards(output)
    _remove(notes, _OWN)
    with suppress(OSError):
        output.rmdir()


def _remove_shards(output: Path) -> None:
    for part in SIDES:
        _remove(output / part, _SHARDS)


def _remove(place: Path, patterns: Sequence[str]) -> None:
    """Remove a folder's files of these patterns, and the folder unless it holds anything else."""
    for pattern in patterns:
        for path in place.glob(pattern):
            path.unlink(missing_ok=True)
    with suppress(OSError):
        place.rmdir()


def _check(output: Path, settings: Mapping[str, Any]) -> None:
    notes = output / NOTES
    found = _read(output / MANIFEST, "settings") or _read(notes / MANIFEST, "settings") or (_read(notes / _SETTINGS) if _noted(notes) else None)
    if found is None:
        if (notes / _SETTINGS).exists():
            _remove_shards(output)
        others = sorted(path.name for path in output.iterdir() if path != notes)
        if others:
            raise InputError(f"{output}: holds {others[0]}, and no collection of csrerank's; give another --output, a new or an empty folder")
    else:
        difference = _difference(found, settings)
        if difference:
            raise InputError(f"{output}: holds a collection written with another {difference}; give another --output, or delete that folder to start anew")
    with atomic(notes / _SETTINGS) as file:
        file.write(json.dumps(settings, ensure_ascii=False).encode())
    _sweep(output)


def _sweep(output: Path) -> None:
    """Remove what processes left that were killed while they wrote a file."""
    for left in output.glob("**/.csrerank-*.tmp"):
        left.unlink(missing_ok=True)


def _read(path: Path, key: str | None = None) -> Any:
    """The JSON in a file, or the value of ``key`` in it; None where there is no such file."""
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_bytes())
        return content[key] if key else content
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: not as csrerank writes it; give another --output, or delete that folder to start anew") from None


def _difference(found: Any, settings: Any, name: str = "") -> str | None:
    """The first setting that differs, as ``name (then, now now)``."""
    if isinstance(found, dict) and isinstance(settings, dict):
        for key in [*settings, *(key for key in found if key not in settings)]:
            difference = _difference(found.get(key), settings.get(key), f"{name}: {key}" if name else key)
            if difference:
                return difference
        return None
    if isinstance(found, list) and isinstance(settings, list) and len(found) == len(settings):
        return next(filter(None, (_difference(one, other, name) for one, other in zip(found, settings, strict=True))), None)
    return None if found == settings else f"{name} ({_short(found)}, now {_short(settings)})"


def _short(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def notes_of(output: Path, shards: Sequence[Shard]) -> dict[Shard, dict[str, Any]]:
    """The notes of the shards that are there as they were written: every file has the SHA-256 that the note (or the manifest of a finished job) gives."""
    finished = {note["shard"]: note for note in _read(output / MANIFEST, "shards") or _read(output / NOTES / MANIFEST, "shards") or []}
    found = {}
    for shard in shards:
        note = _read(output / NOTES / note_name(shard)) or finished.get(shard.stem)
        if note is not None and all(is_as_written(output / path, entry) for path, entry in note["files"].items()):
            found[shard] = {key: note[key] for key in ("files", "counts", "examples")}
    return found


def is_whole(output: Path) -> bool:
    """Whether the folder is finished and its files beside the shards are as they were written."""
    entries = _read(output / MANIFEST, "files")
    return entries is not None and all(is_as_written(output / path, entry) for path, entry in entries.items() if "/" not in path)


def is_as_written(path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether a file has the size and SHA-256 that were noted."""
    from csrerank.collections.texts import file_hash

    return path.is_file() and path.stat().st_size == entry["bytes"] and file_hash(path) == entry["sha256"]


def write_manifest(output: Path, settings: Mapping[str, Any], notes: Mapping[Shard, Mapping[str, Any]], others: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the manifest, last of all files: settings, SHA-256 of every file, and the shards' notes, so that a lost shard can be written again alone."""
    content = {
        "settings": settings,
        "files": {path: entry for note in notes.values() for path, entry in note["files"].items()} | dict(others),
        "shards": [{"shard": shard.stem, **note} for shard, note in notes.items()],
    }
    with atomic(output / MANIFEST) as file:
        file.write((json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())
