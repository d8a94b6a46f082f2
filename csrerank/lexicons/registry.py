"""The sources of lexicons by name: a source's module registers itself with one line, and the catalogue finds it here."""

import json
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

from csrerank.errors import InputError
from csrerank.lexicons.lexicon import Entry, Lexicon, inverted
from csrerank.lines import opened, source_name

Skipped = Counter[str]  # what a reader left out of a file, by reason
Reader = Callable[[str | Path, str, str, Skipped], Iterable[Entry]]


class Registered(NamedTuple):
    """A source: what it makes, from what, under which licence. See ``register``."""

    name: str
    licence: str
    entries: Callable[[str, str], Iterable[Entry]] | None
    languages: frozenset[str]
    inputs: Callable[[str, str], Mapping[str, str]]
    version: str
    both: bool
    turn: Callable[[Lexicon], Iterable[Entry]]
    read: Reader | None
    files_of: Callable[[str | Path], Sequence[Path]]
    licences: Mapping[str, str]

    def licence_of(self, source_lang: str, target_lang: str) -> str:
        """The licence of one language pair's entries."""
        return self.licences.get(source_lang if target_lang == "en" else target_lang, self.licence)


SOURCES: dict[str, Registered] = {}


def _nothing(source_lang: str, target_lang: str) -> Mapping[str, str]:
    return {}


def _one_file(path: str | Path) -> Sequence[Path]:
    return (Path(path),)


def register(
    name: str,
    licence: str,
    *,
    entries: Callable[[str, str], Iterable[Entry]] | None = None,
    languages: Collection[str] = (),
    inputs: Callable[[str, str], Mapping[str, str]] = _nothing,
    version: str = "1",
    both: bool = False,
    turn: Callable[[Lexicon], Iterable[Entry]] = inverted,
    read: Reader | None = None,
    files_of: Callable[[str | Path], Sequence[Path]] = _one_file,
    licences: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Make a source known to the catalogue.

    :param licence: what the entries are under.
    :param entries: ``(source_lang, target_lang)`` gives the entries; asked for English into X, and for X into English only with ``both``. None for a format
        of which only a user's own files are read.
    :param languages: the X, without English.
    :param inputs: what ``entries`` reads, name to MD5 (or a package to its version); kept in the lexicon, and part of its name in the cache.
    :param version: of the code that reads: raise it when the same inputs give other entries.
    :param both: whether X into English is read too; otherwise it is English into X, turned by ``turn``.
    :param read: reads a user's own file of the same format: path, the two languages, and a counter of what is left out.
    :param files_of: the files that ``read`` opens for a path.
    :param licences: by language, where it is another than ``licence``.
    """
    SOURCES[name] = Registered(name, licence, entries, frozenset(languages), inputs, version, both, turn, read, files_of, licences)


def published(key: str) -> dict[str, str]:
    """MD5 by file name of the part ``key`` of downloads.json. Unlike ``collections.catalogue.download_md5`` it leaves ir_datasets, which takes 0.3 s, alone."""
    contents = json.loads((files("csrerank") / "collections" / "downloads.json").read_text(encoding="utf-8"))
    return {name: entry["expected_md5"] for name, entry in contents[key].items()}


def versions(*packages: str) -> dict[str, str]:
    """The installed version by package, for ``inputs``."""
    from importlib.metadata import version

    return {package: version(package) for package in packages}


def fetched(key: str, name: str) -> Path:
    """The file ``name`` of the part ``key`` of downloads.json, downloaded if need be and checked."""
    from csrerank.collections.catalogue import downloads

    return Path(downloads(key)[name].path())


def content(source: str | Path | BinaryIO, name: str | None = None) -> bytes:
    """A whole file in memory, unpacked if it is gzip. Raises ``InputError`` where it cannot be read, or is damaged."""
    shown = name or source_name(source)
    with opened(source, shown) as stream:
        try:
            return stream.read()
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(f"{shown}: truncated or damaged gzip file ({error}); fetch it again and try gzip -t") from error
