"""The journal of a re-ranking job: the scores of each finished window of pairs, so that a killed job goes on where it was, under a fingerprint of everything that made them.

Layout: one line of JSON (the fingerprint), then records of
``<window: u32> <pairs: u32> <passages cut: u32> <CRC-32 of the scores: u32> <scores: float32 each>``, little-endian. A record that the kill cut short is dropped.
"""

import fcntl
import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from csrerank.errors import InputError

_OPENING = b'{"'
_RECORD = struct.Struct("<IIII")


class Journal:
    """Scores by window, kept beside the output while the job runs. ``path`` None keeps them in memory only (for standard output, which cannot be resumed)."""

    def __init__(self, path: Path | None, fingerprint: Mapping[str, Any]) -> None:
        """Open or make the journal. Raises ``InputError`` naming the first setting that differs where another job left it."""
        self.path, self.windows, self.passages_cut = path, dict[int, np.ndarray](), 0
        self._file: BinaryIO | None = None
        if path is None:
            return
        self._file = self._locked(path)
        header = json.dumps(dict(fingerprint), sort_keys=True).encode() + b"\n"
        good = self._read(path, dict(fingerprint))
        self._file.truncate(good)
        self._file.seek(good)
        if good == 0:
            self._file.write(header)

    @staticmethod
    def _locked(path: Path) -> BinaryIO:
        # Makes the file if need be and leaves one that is there as it is; writing goes through the same descriptor, so that the lock covers it.
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{path}: another job is writing this journal; wait for it, or give another --output") from None
        return file

    def _read(self, path: Path, fingerprint: dict[str, Any]) -> int:
        """Load the whole records and give the length of the part that is sound; 0 where the header itself was cut short."""
        content = path.read_bytes()
        end = content.find(b"\n") + 1
        if not end and _OPENING.startswith(content[: len(_OPENING)]):
            return 0
        try:
            found = json.loads(content[:end])
        except ValueError:
            raise InputError(f"{path}: not a journal of csrerank; move it away, or give another --output") from None
        for name in [*fingerprint, *found]:
            if found.get(name) != fingerprint.get(name):
                raise InputError(f"{path}: left by a job with another {name} ({found.get(name)}, now {fingerprint.get(name)}); go on with that, or delete the journal to start anew")
        at = end
        while at + _RECORD.size <= len(content):
            window, pairs, cut, check = _RECORD.unpack_from(content, at)
            scores = content[at + _RECORD.size : at + _RECORD.size + 4 * pairs]
            if len(scores) < 4 * pairs or zlib.crc32(scores) != check:
                break
            self.windows[window] = np.frombuffer(scores, "<f4")
            self.passages_cut += cut
            at += _RECORD.size + len(scores)
        return at

    def add(self, window: int, scores: np.ndarray, passages_cut: int = 0) -> None:
        """Keep the scores of a window, and how many of its passages were cut: on disk (flushed and synced) before this returns."""
        self.windows[window] = scores
        self.passages_cut += passages_cut
        if self._file is not None:
            content = scores.astype("<f4").tobytes()
            self._file.write(_RECORD.pack(window, len(scores), passages_cut, zlib.crc32(content)) + content)
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self, finished: bool) -> None:
        """Close, and delete the file where the job is finished."""
        if self._file is not None:
            self._file.close()
            if finished and self.path is not None:
                self.path.unlink(missing_ok=True)
