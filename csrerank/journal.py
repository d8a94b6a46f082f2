"""The journal of a re-ranking job: the scores of each finished window of pairs, so that a killed job goes on where it was, under a fingerprint of everything
that made them.

Layout: one line of JSON (the fingerprint), then records of ``<window: u32> <pairs: u32> <passages cut: u32> <CRC-32 of the rest of the record: u32>
<scores: float32 each>``, little-endian. A record that the kill cut short is dropped.
"""

import errno
import fcntl
import json
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from csrerank.errors import InputError
from csrerank.files import target_name

_RECORD = struct.Struct("<IIII")
_COUNTS = struct.Struct("<III")


def journal_of(output: str | Path) -> Path:
    """Where the journal of a job that writes ``output`` lies while it runs: beside the file that a symbolic link leads to, so that jobs that write one file share it."""
    return Path(f"{os.path.realpath(output) if os.path.islink(output) else output}.journal")


def part_of(target: str | Path) -> Path:
    """Where what becomes ``target`` is written first."""
    real = Path(os.path.realpath(target))
    return real.with_name(f".{real.name}.part")


class Journal:
    """Scores by window, kept beside the output while the job runs. ``path`` None keeps them in memory only (for standard output, which cannot be resumed)."""

    def __init__(self, path: Path | None, fingerprint: Mapping[str, Any]) -> None:
        """Open or make the journal. Raises ``InputError`` naming the first setting that differs where another job left it, and where a job is writing it now."""
        self.path, self.windows, self.passages_cut = path, dict[int, np.ndarray](), 0
        self._file: BinaryIO | None = None
        self._kept = False  # whether the file has a record: of those taken from ``windows`` too
        if path is None:
            return
        header = json.dumps(dict(fingerprint)).encode() + b"\n"
        file = locked(path)
        try:
            good = self._load(path, file.read(), header)
            file.truncate(good)
            file.seek(good)
            if good == 0:
                file.write(header)
        except BaseException:
            file.close()
            raise
        self._file = file

    def _load(self, path: Path, content: bytes, header: bytes) -> int:
        """Take over the whole records and give the length of the part that is sound; 0 where the header itself was cut short."""
        if len(content) < len(header) and header.startswith(content):
            return 0
        _refuse_other(path, content, json.loads(header))
        at = content.index(b"\n") + 1
        while at + _RECORD.size <= len(content):
            window, pairs, cut, check = _RECORD.unpack_from(content, at)
            scores = content[at + _RECORD.size : at + _RECORD.size + 4 * pairs]
            if len(scores) < 4 * pairs or _check(window, pairs, cut, scores) != check:
                break
            self.windows[window] = np.frombuffer(scores, "<f4")
            self._kept = True
            self.passages_cut += cut
            at += _RECORD.size + len(scores)
        return at

    def add(self, window: int, scores: np.ndarray, passages_cut: int = 0) -> None:
        """Keep the scores of a window, and how many of its passages were cut: on disk (flushed and synced) before this returns. Raises ``InputError`` where
        the disk is full.
        """
        self.windows[window] = scores
        self.passages_cut += passages_cut
        if self._file is not None:
            content = scores.astype("<f4").tobytes()
            check = _check(window, len(scores), passages_cut, content)
            try:
                self._file.write(_RECORD.pack(window, len(scores), passages_cut, check) + content)
                self._file.flush()
                os.fsync(self._file.fileno())
                self._kept = True
            except OSError as error:
                raise InputError(f"{self.path}: cannot be written ({error.strerror}); free some space, and the same command goes on from it") from error

    def close(self, finished: bool) -> None:
        """Close, and delete the file where the job is finished, or got nowhere (so that a mended command is not refused for it)."""
        if self._file is None or self.path is None:
            return
        if finished or not self._kept:
            self.path.unlink(missing_ok=True)  # under the lock: afterwards the name may be another job's
        with suppress(OSError):  # what a full disk kept from being written is a cut record, which the next job drops
            self._file.close()


def locked(path: Path) -> BinaryIO:
    """The file at ``path``, made if need be and left as it is otherwise, locked; writing goes through the same descriptor, so that the lock covers it."""
    while True:
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
        except OSError as error:
            raise InputError(f"{path}: the journal of the job cannot be opened ({error.strerror}); move it away, or give another --output") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except BlockingIOError:
            file.close()
            raise InputError(f"{path}: another job is writing this journal; wait for it, or give another --output") from None
        except FileNotFoundError:
            pass  # the job that held it has finished and deleted it meanwhile: make a new one
        except OSError as error:
            file.close()
            raise InputError(f"{path}: cannot be locked ({error.strerror}); give an --output on a file system that has locks") from None
        file.close()


def _refuse_other(path: Path, content: bytes, fingerprint: dict[str, Any]) -> None:
    """Raise ``InputError`` unless ``content`` begins with the header of ``fingerprint``."""
    try:
        found = json.loads(content[: content.find(b"\n") + 1])
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found.keys() >= {"run", "topics", "documents", "model"} & fingerprint.keys():
        raise InputError(f"{path}: not a journal of csrerank; move it away, or give another --output")
    for name in [*fingerprint, *found]:
        if found.get(name) != fingerprint.get(name):
            raise InputError(
                f"{path}: left by a job with another {name} ({found.get(name)}, now {fingerprint.get(name)}); go on with that, or delete the journal to start anew"
            )


def _check(window: int, pairs: int, cut: int, scores: bytes) -> int:
    return zlib.crc32(scores, zlib.crc32(_COUNTS.pack(window, pairs, cut)))


@contextmanager
def placed(target: str | Path) -> Iterator[BinaryIO]:
    """A file that becomes ``target`` by rename when the block ends, as ``files.atomic`` gives one, but under a name that is only for the holder of the journal.

    What a kill leaves there, the job that goes on overwrites.
    """
    real, part = Path(os.path.realpath(target)), part_of(target)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            part.chmod(stat.S_IMODE(real.stat().st_mode))
        part.replace(real)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"{target_name(target)}: no space left on the disk; free some, and the same command goes on from its journal") from error
        raise
