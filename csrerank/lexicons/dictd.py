"""dictd databases: an index of headwords with places in base 64, and a compressed text; as two files, or inside a Debian package."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from csrerank.errors import InputError
from csrerank.files import source_name
from csrerank.lexicons.registry import content

_DIGITS = {character: value for value, character in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")}
_AR, _AR_HEADER = b"!<arch>\n", 60


class Database(NamedTuple):
    """A dictd database: the bytes of its index and of its text, unpacked, and what messages call them."""

    headwords: bytes
    text: bytes
    name: str

    @classmethod
    def open(cls, path: str | Path) -> "Database":
        """Read a Debian package (.deb) that holds one, or an ``.index`` file or the ``.dict.dz`` or ``.dict`` beside it. Raises ``InputError`` for another."""
        name = source_name(path)
        package = content(path)
        if package.startswith(_AR):
            return cls._of_package(package, name)
        stem = str(path)
        for ending in (".index", ".dict.dz", ".dict"):
            stem = stem.removesuffix(ending)
        if stem == str(path):
            raise InputError(f"{name}: neither a Debian package nor a dictd database (.index beside .dict.dz); name one of these")
        text = next((stem + ending for ending in (".dict.dz", ".dict") if Path(stem + ending).exists()), None)
        if text is None:
            raise InputError(f"{name}: no {stem}.dict.dz beside it; a dictd database is an index and a text")
        return cls(content(f"{stem}.index"), content(text), f"{stem}.index")

    @classmethod
    def _of_package(cls, package: bytes, name: str) -> "Database":
        try:
            with tarfile.open(fileobj=io.BytesIO(_ar_member(package, "data.tar", name))) as archive:
                members = {member.name: member for member in archive if member.isfile() and member.name.endswith((".index", ".dict.dz"))}
                indexes = [member for member in members if member.endswith(".index")]
                texts = [member for member in members if member.endswith(".dict.dz")]
                if len(indexes) != 1 or len(texts) != 1:
                    raise InputError(f"{name}: {len(indexes)} .index and {len(texts)} .dict.dz in the package where one of each makes a dictd database")
                index, text = (archive.extractfile(members[member]) for member in (indexes[0], texts[0]))
                assert index is not None and text is not None  # both are plain files
                return cls(index.read(), content(io.BytesIO(text.read()), f"{name}: {texts[0]}"), f"{name}: {indexes[0]}")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise InputError(f"{name}: a damaged package, or one packed in a way unknown here ({type(error).__name__}); fetch it again") from error

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
        try:
            size = int(header[48:58])
        except ValueError:
            break
        if header.startswith(start.encode()):
            if place + size > len(archive):
                break
            return archive[place : place + size]
        place += size + size % 2
    raise InputError(f"{name}: a Debian package without a whole {start} in it; fetch it again")
