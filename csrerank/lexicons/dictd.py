"""dictd databases: an index of headwords with places in base 64, and a compressed text; as two files, or inside a Debian package."""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from csrerank.errors import InputError
from csrerank.lexicons.registry import content
from csrerank.lines import source_name

_DIGITS = {character: value for value, character in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")}
_AR, _AR_HEADER = b"!<arch>\n", 60
_INDEX, _TEXTS = ".index", (".dict.dz", ".dict")
_UNPACK: Mapping[bytes, Callable[[bytes], bytes]] = {b"\xfd7zXZ": lzma.decompress, b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress}


class Database(NamedTuple):
    """A dictd database: the bytes of its index and of its text, unpacked, and what messages call them."""

    headwords: bytes
    text: bytes
    name: str

    @classmethod
    def open(cls, path: str | Path) -> "Database":
        """Read a Debian package (.deb) that holds one, or an ``.index`` file or the ``.dict.dz`` or ``.dict`` beside it. Raises ``InputError`` for another."""
        name, paths = source_name(path), files_of(path)
        if len(paths) == 2:
            index, text = paths
            return cls(content(index), content(text), source_name(index))
        package = content(path)
        if not package.startswith(_AR):
            raise InputError(f"{name}: neither a Debian package nor a dictd database (.index beside .dict.dz); name one of these")
        return cls._of_package(package, name)

    @classmethod
    def _of_package(cls, package: bytes, name: str) -> "Database":
        packed = _ar_member(package, "data.tar", name)
        try:
            # Unpacked to the end before it is read: only there do xz and gzip notice that a byte was changed.
            unpacked = next((unpack(packed) for magic, unpack in _UNPACK.items() if packed.startswith(magic)), packed)
            with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as archive:
                members = {member.name: member for member in archive if member.isfile() and member.name.endswith((_INDEX, _TEXTS[0]))}
                texts, indexes = ([member for member in members if member.endswith(ending)] for ending in (_TEXTS[0], _INDEX))
                if len(indexes) == len(texts) == 1:
                    index, text = (archive.extractfile(members[member]) for member in (indexes[0], texts[0]))
                    assert index is not None and text is not None  # both are plain files
                    headwords, packed = index.read(), text.read()
        except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError) as error:
            raise InputError(f"{name}: a damaged package, or one packed in a way unknown here ({type(error).__name__}); fetch it again") from error
        if not len(indexes) == len(texts) == 1:
            raise InputError(f"{name}: {len(indexes)} .index and {len(texts)} .dict.dz in the package where one of each makes a dictd database")
        return cls(headwords, content(io.BytesIO(packed), f"{name}: {texts[0]}"), f"{name}: {indexes[0]}")

    def entries(self) -> Iterator[str]:
        """The entries' texts in the order in which they stand, each once. Raises ``InputError`` where the index points outside of the text."""
        try:
            lines = self.headwords.decode().split("\n")
        except UnicodeDecodeError:
            raise InputError(f"{self.name}: not UTF-8 text; this is no dictd index") from None
        places: set[tuple[int, int]] = set()
        for number, line in enumerate(lines, 1):
            word, _, place = line.partition("\t")
            if not line or word.startswith(("00database", "00-database")):
                continue
            try:
                start, length = (_number(digits) for digits in place.split("\t")[:2])
            except (KeyError, ValueError):
                raise InputError(f"{self.name}:{number}: no place and length in base 64 after the word; this is no dictd index") from None
            if start + length > len(self.text):
                raise InputError(f"{self.name}:{number}: points to byte {start + length} of a text of {len(self.text)}; the two files do not belong together")
            places.add((start, length))
        for start, length in sorted(places):
            yield self.text[start : start + length].decode(errors="replace")


def files_of(path: str | Path) -> tuple[Path, ...]:
    """The two files, index and text, of the dictd database that either of them names; any other path alone. Raises ``InputError`` where the text is missing."""
    ending = next((ending for ending in (_INDEX, *_TEXTS) if str(path).endswith(ending)), None)
    if ending is None:
        return (Path(path),)
    stem = str(path).removesuffix(ending)
    text = next((Path(stem + ending) for ending in _TEXTS if Path(stem + ending).exists()), None)
    if text is None:
        raise InputError(f"{source_name(path)}: no {stem}{_TEXTS[0]} beside it; a dictd database is an index and a text")
    return Path(stem + _INDEX), text


def _number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value << 6 | _DIGITS[digit]
    if not digits:
        raise ValueError("no digits")
    return value


def _ar_member(archive: bytes, start: str, name: str) -> bytes:
    """The member of an ``ar`` archive whose name starts so. A header is 60 bytes: name (16), time, owner, group, mode, size (10, decimal), two to close."""
    place = len(_AR)
    while place + _AR_HEADER <= len(archive):
        header = archive[place : place + _AR_HEADER]
        place += _AR_HEADER
        digits = header[48:58].rstrip(b" ")
        if not digits.isdigit():  # int() would take a minus, and this would never end
            break
        size = int(digits)
        if header.startswith(start.encode()):
            if place + size > len(archive):
                break
            return archive[place : place + size]
        place += size + size % 2
    raise InputError(f"{name}: a Debian package without a whole {start} in it; fetch it again")
