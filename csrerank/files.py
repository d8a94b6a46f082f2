"""Files that appear whole or not at all."""

import errno
import gzip
import os
import secrets
import shlex
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO

from csrerank.errors import InputError, printable, reason


def target_name(target: str | Path) -> str:
    """Name a target in messages: its path, or "standard output" for "-"; always one line."""
    return "standard output" if str(target) == "-" else printable(str(target))


def check_writable(target: str | Path) -> None:
    """Raise InputError if ``target`` could not be written now, so that a long job fails before it starts."""
    if str(target) == "-":
        return
    if _is_device(target):
        if not os.access(target, os.W_OK):
            raise InputError(f"{target_name(target)}: no permission to write; choose another target")
        return
    temporary, descriptor = _create_beside(target)
    os.close(descriptor)
    os.unlink(temporary)


@contextmanager
def atomic(target: str | Path, mode: str = "wb") -> Iterator[BinaryIO]:
    """Open a temporary file that becomes ``target`` by rename when the block ends, and vanishes if the block raises.

    It lies in the same folder, is synced before the rename, and keeps the permissions of a file that it replaces; a
    symbolic link stays and its file is replaced. Standard output ("-") and devices, which cannot be renamed to, get the
    bytes at the end of the block.

    :param mode: "wb", or "w+b" to read back what was written.
    :raises InputError: if ``target`` cannot be written or the disk is full.
    """
    if mode not in ("wb", "w+b"):
        raise ValueError(f"mode {mode!r}: atomic opens wb or w+b")
    if str(target) == "-" or _is_device(target):
        check_writable(target)
        with _disk_space(target), tempfile.TemporaryFile() as spool:
            yield spool
            spool.seek(0)
            _pour(iter(partial(spool.read, 1 << 17), b""), target)
        return
    temporary, descriptor = _create_beside(target)
    try:
        with _disk_space(target):
            with open(descriptor, mode) as file:
                yield file  # type: ignore[misc]
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, os.path.realpath(target))
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def packed(file: BinaryIO, target: str | Path) -> AbstractContextManager[IO[bytes]]:
    """Give ``file`` to write to, compressing if ``target`` ends in ".gz"; leaving the block does not close ``file``."""
    if str(target).endswith(".gz"):
        # No name and no time in the header: the same text gives the same bytes.
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)  # type: ignore[return-value]
    return nullcontext(file)


def write_lines(chunks: Iterable[bytes], target: str | Path) -> int:
    """Write chunks of whole lines, packed if ``target`` ends in ".gz", and return the number of lines.

    A file appears whole, as atomic describes. Standard output ("-") gets each chunk at once, and a reader that goes
    away ends the process quietly with status 141.

    :raises InputError: if ``target`` cannot be written or the disk is full.
    """
    if str(target) == "-":
        with _disk_space(target):
            return _pour(chunks, target)
    with atomic(target) as file, packed(file, target) as out:
        return put_lines(chunks, out)


def put_lines(chunks: Iterable[bytes], out: IO[bytes]) -> int:
    """Write chunks of whole lines to an open file and return the number of lines."""
    lines = 0
    for chunk in chunks:
        out.write(chunk)
        lines += chunk.count(b"\n")
    return lines


def _pour(chunks: Iterable[bytes], target: str | Path) -> int:
    """Write to standard output or to a device, which know no rename, and return the number of lines."""
    lines = 0
    sys.stdout.flush()  # what was printed before comes first
    with nullcontext(sys.stdout.buffer) if str(target) == "-" else open(target, "wb") as out:
        for chunk in chunks:
            with _quiet_end(out):
                out.write(chunk)
            lines += chunk.count(b"\n")
        with _quiet_end(out):
            out.flush()
    return lines


@contextmanager
def _quiet_end(out: BinaryIO) -> Iterator[None]:
    """End the process quietly if the reader of ``out`` has gone."""
    try:
        yield
    except BrokenPipeError:
        # The interpreter flushes once more at exit, and would report the closed pipe then.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise SystemExit(141) from None  # 128 + SIGPIPE: what a shell shows for cat FILE | head


@contextmanager
def _disk_space(target: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"{target_name(target)}: no space left on the disk; free some and run again") from error
        raise


def _is_device(target: str | Path) -> bool:
    try:
        mode = os.stat(target).st_mode
    except (OSError, ValueError):
        return False  # _create_beside says what is wrong
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _create_beside(target: str | Path) -> tuple[str, int]:
    """Create an empty file in the folder of ``target``, with its permissions if it exists; return (path, descriptor)."""
    shown = target_name(target)
    try:
        path = os.path.realpath(target)
        folder = os.path.dirname(path)
        if os.path.isdir(path):
            raise InputError(f"{shown}: is a directory; name a file in it")
        if not os.path.isdir(folder):
            raise InputError(f"{shown}: its folder does not exist; make it with mkdir -p {shlex.quote(printable(folder))}")
        mode = None
        with suppress(FileNotFoundError):
            mode = os.stat(path).st_mode
        if mode is not None and not os.access(path, os.W_OK):
            raise InputError(f"{shown}: no permission to write; allow it with chmod u+w or choose another file")
        temporary = os.path.join(folder, f".csrerank-{secrets.token_hex(8)}.tmp")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if mode is not None:
            os.fchmod(descriptor, stat.S_IMODE(mode))
    except InputError:
        raise
    except PermissionError:
        raise InputError(f"{shown}: no permission to write in its folder; choose another folder") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{shown}: cannot be written ({reason(error)}); choose another file") from error
    return temporary, descriptor


def is_stream(path: str | Path) -> bool:
    """Whether ``path`` is standard input or output, a pipe or a device: read or written once, and nothing lies beside it."""
    # os.path, because pathlib raises where a name is too long.
    return str(path) == "-" or (os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path))
