"""Files, opened and written safely: text is checked as it is read, and what is written appears whole or not at all."""

import errno
import gzip
import os
import secrets
import shlex
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, NoReturn, Protocol

from csrerank.errors import InputError

_CHUNK = 1 << 17
LONGEST_LINE = 1 << 20  # bytes; a longer one in a run is a binary file
_MARK = b"\xef\xbb\xbf"
_SPLITTERS = ((b"\r", "carriage return"), (b"\v", "vertical tab"), (b"\f", "form feed"))
# Each longer than any text would start with: a topic may well be called PAR1.
_FIRST_BYTES = {
    _MARK: r"starts with a UTF-8 byte order mark; remove it with sed -i '1s/^\xEF\xBB\xBF//' FILE",
    b"\xff\xfe": "is UTF-16 text (byte order mark FF FE); convert it with iconv -f UTF-16 -t UTF-8 FILE",
    b"\xfe\xff": "is UTF-16 text (byte order mark FE FF); convert it with iconv -f UTF-16 -t UTF-8 FILE",
    b"\x1f\x8b": "is gzip inside gzip, not text; unpack it once with gunzip",
    b"BZh91AY": "is a binary file (bzip2), not text; unpack it with bunzip2",
    b"\xfd7zXZ": "is a binary file (xz), not text; unpack it with unxz",
    b"\x28\xb5\x2f\xfd": "is a binary file (zstandard), not text; unpack it with unzstd",
    b"PK\x03\x04": "is a binary file (zip), not text; unpack it with unzip",
    b"PAR1\x15": "is a binary file (Parquet), not text; write it out as text",
    b"%PDF-": "is a binary file (PDF), not text; name the text file itself",
    b"\x7fELF": "is a binary file (a program), not text; name the text file itself",
}


class Readable(Protocol):
    """What reading needs of an open binary file."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes, none only at the end."""
        ...


def source_name(source: str | Path | BinaryIO) -> str:
    """Name a source in messages: its path, "standard input" for "-", "stream" for an open file; always one line."""
    if not isinstance(source, str | Path):
        return "stream"
    return "standard input" if str(source) == "-" else _printable(str(source))


def target_name(target: str | Path) -> str:
    """Name a target in messages: its path, or "standard output" for "-"; always one line."""
    return "standard output" if str(target) == "-" else _printable(str(target))


def shell_name(name: str) -> str:
    """Return the name of a source as a shell command takes it, for the mend in a message."""
    return "FILE" if name in ("standard input", "stream") else shlex.quote(name)


def read_lines(source: str | Path | BinaryIO, *, allow_empty: bool = False, name: str | None = None, longest: int = LONGEST_LINE) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text without its end) for each line of a text file that is not blank.

    :param source: a path, "-" for standard input, or an open binary file, which stays open; gzip is known by its first
        bytes, not by its name. CRLF is accepted.
    :param name: what messages call the source.
    :param longest: bytes that a line may have.
    :raises InputError: where the bytes are not lines of UTF-8 text, or (unless ``allow_empty``) where there is no line.
    """
    shown = name or source_name(source)
    empty = True
    with opened(source, shown) as stream:
        for first, block in blocks(stream, shown, longest):
            for line in text_lines(block, first, shown):
                empty = False
                yield line
    if empty and not allow_empty:
        refuse_empty(shown)


@contextmanager
def opened(source: str | Path | BinaryIO, name: str) -> Iterator[Readable]:
    """Open a source of read_lines, unpacked if it is gzip.

    :raises InputError: where it cannot be opened.
    """
    if not isinstance(source, str | Path):
        yield _unpacked(source, name)
    elif str(source) == "-":
        yield _unpacked(sys.stdin.buffer, name)
    else:
        with _open(source, name) as file:
            yield _unpacked(file, name)


def blocks(stream: Readable, name: str, longest: int = LONGEST_LINE) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line, whole lines each ended by LF) about 128 KiB at a time.

    :raises InputError: at the first bytes of a known binary format, at a line of more than 1 MiB, where reading fails.
    """
    number, rest = 1, b""
    chunk = _read(stream, _CHUNK, name)
    for magic, message in _FIRST_BYTES.items():
        if chunk.startswith(magic):
            raise InputError(f"{name}:1: {message.replace('FILE', shell_name(name))}")
    while chunk or rest:
        chunk = chunk or b"\n"  # the last line may lack its end
        end = chunk.find(b"\n")
        if len(rest) + (end if end >= 0 else len(chunk)) > longest:
            raise InputError(f"{name}:{number}: a line of more than {longest >> 20} MB: this looks like a binary file, not text; check the path")
        block, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            block += newline
            yield number, block.replace(b"\r\n", b"\n") if b"\r" in block else block
            number += block.count(b"\n")
        chunk = _read(stream, _CHUNK, name)


def text_lines(block: bytes, first: int, name: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) for each line of a block that is not blank; ``first`` is the number of the first.

    :raises InputError: at the first line that is not plain text, after the lines before it.
    """
    plain = is_plain(block)
    for number, line in enumerate(block[:-1].split(b"\n"), first):
        text = line.decode() if plain else _text(line, number, name)
        if text.strip(" \t"):
            yield number, text


def is_plain(block: bytes) -> bool:
    """Tell whether no line of a block breaks the rules of text_lines: UTF-8 without NUL, \\r, \\v, \\f or byte order marks."""
    if b"\0" in block or any(byte in block for byte, _ in _SPLITTERS) or block.startswith(_MARK) or b"\n" + _MARK in block:
        return False
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def refuse_empty(name: str) -> NoReturn:
    """Raise the InputError for a source without lines."""
    raise InputError(f"{name}: the file is empty (no line with text); check the command that wrote it")


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
            _pour(iter(partial(spool.read, _CHUNK), b""), target)
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


class _Joined:
    """A stream whose first bytes have been read already."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self.head, self.stream = head, stream

    def read(self, size: int = -1, /) -> bytes:
        head, self.head = self.head, b""
        return head + self.stream.read(max(size - len(head), 0) if size >= 0 else -1)


def _open(path: str | Path, name: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise InputError(f"{name}: no such file; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{name}: is a directory; name a file in it") from None
    except PermissionError:
        raise InputError(f"{name}: no permission to read; allow it with chmod u+r") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be opened ({_reason(error)}); check the path") from error


def _unpacked(stream: Readable, name: str) -> Readable:
    head = _read(stream, 2, name)
    if len(head) == 1:
        head += _read(stream, 1, name)
    joined = _Joined(head, stream)
    return gzip.GzipFile(fileobj=joined, mode="rb") if head == b"\x1f\x8b" else joined  # type: ignore[call-overload]


def _read(stream: Readable, size: int, name: str) -> bytes:
    try:
        return stream.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{name}: truncated or damaged gzip file ({_reason(error)}); fetch it again and try gzip -t") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({_reason(error)}); check the file and its disk") from error


def _text(line: bytes, number: int, name: str) -> str:
    """Decode one line, refusing bytes that do not belong in a text file."""
    if b"\0" in line:
        raise InputError(f"{name}:{number}: NUL byte: this is a binary or damaged file, or UTF-16 text; convert it to UTF-8 text")
    for byte, what in _SPLITTERS:
        if byte in line:
            raise InputError(f"{name}:{number}: {what} inside the line, where tools disagree how to split it; replace it")
    if line.startswith(_MARK):
        raise InputError(f"{name}:{number}: byte order mark inside the file, as joining files leaves it; remove it from the line")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}:{number}: not UTF-8 text (byte {line[error.start]:#04x} at position {error.start + 1}); "
            "convert it, for instance with iconv -f LATIN1 -t UTF-8"
        ) from None


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
            raise InputError(f"{shown}: its folder does not exist; make it with mkdir -p {shlex.quote(_printable(folder))}")
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
        raise InputError(f"{shown}: cannot be written ({_reason(error)}); choose another file") from error
    return temporary, descriptor


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _reason(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".").replace("\n", " ")


def is_stream(path: str | Path) -> bool:
    """Whether ``path`` is standard input or output, a pipe or a device: read or written once, and nothing lies beside it."""
    # os.path, because pathlib raises where a name is too long.
    return str(path) == "-" or (os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path))
