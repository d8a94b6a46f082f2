"""Text files, read line by line: what is not text is refused with the line that shows it."""

import gzip
import shlex
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn, Protocol

from csrerank.errors import InputError, printable, reason

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
    return "standard input" if str(source) == "-" else printable(str(source))


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
        raise InputError(f"{name}: cannot be opened ({reason(error)}); check the path") from error


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
        raise InputError(f"{name}: truncated or damaged gzip file ({reason(error)}); fetch it again and try gzip -t") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({reason(error)}); check the file and its disk") from error


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
