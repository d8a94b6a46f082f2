"""A ``Lexicon`` maps a word or phrase to its ranked translations; it is one memory-mapped file, or several lexicons merged with a stated precedence."""

import json
import math
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain, count
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize

from csrerank.errors import InputError

FORMAT = 2
MOST = 16  # translations kept a word
_CHECK = 16  # bytes at the end of a file: the BLAKE2b of the rest
_UNFIT = re.compile("[\0-\x1f\ud800-\udfff]")  # what no key holds: the trie reads a key only to its first NUL, and lone surrogates have no UTF-8
_HEADER = "\x01"  # no word is spelled so; its value is the header
_LEAST = 2.0**-126  # the least score: float32 keeps it above 0
_VALUE = struct.Struct("<BfB")  # rank, score, place of the source in the header; the translation's UTF-8 follows


class Entry(NamedTuple):
    """What a source's reader yields: one translation of one word. Only the order of the scores matters within a word; ties keep the reader's order."""

    word: str
    translation: str
    score: float = 1.0


class Translation(NamedTuple):
    """One translation as it is written in its language; ``score`` in (0, 1] is its source's trust in it, ``source`` the name of one of the lexicon's sources."""

    text: str
    score: float
    source: str


class Source(NamedTuple):
    """Where entries come from: a name, the licence they are under, and the MD5 of each file that was read (of a package its version)."""

    name: str
    licence: str
    files: Mapping[str, str] = {}


def key_of(text: str) -> str:
    """How words are looked up: NFC, lower-cased, typographic apostrophes straight, one space between words, no soft hyphens, no Arabic vowel marks or tatweel."""
    text = text.lower() if text.isascii() else normalize("NFC", text).lower().replace("\u2019", "'").translate(_DROPPED)
    return text if text.isalpha() else " ".join(text.split())


_DROPPED = dict.fromkeys([0xAD, 0x640, 0x670, *range(0x64B, 0x653)])


class Lexicon(ABC):
    """Translations of words and phrases from one language into another. Its words are keys as ``key_of`` makes them."""

    source_lang: str
    target_lang: str
    sources: tuple[Source, ...]
    longest: int  # words in the longest phrase
    fingerprint: str  # of all entries: the same entries give the same fingerprint, on every machine

    @abstractmethod
    def translations(self, key: str) -> tuple[Translation, ...]:
        """The translations of ``key``, best first; none where the lexicon lacks it."""

    @abstractmethod
    def prefixes(self, text: str) -> list[str]:
        """Every key that ``text`` starts with, shortest first (for scripts that put no space between words)."""

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(self.translations(key))

    @abstractmethod
    def __iter__(self) -> Iterator[str]: ...

    @abstractmethod
    def __len__(self) -> int: ...


class StoredLexicon(Lexicon):
    """A lexicon in a marisa trie: a file that is memory-mapped, so loading reads nothing and processes share it."""

    def __init__(self, trie: Any, name: str) -> None:
        try:
            (header,) = trie[_HEADER]
            content = json.loads(header)
        except (KeyError, ValueError, RuntimeError) as error:
            raise InputError(f"{name}: not a saved lexicon; make it again with csrerank lexicon build") from error
        if content.get("format") != FORMAT:
            raise InputError(f"{name}: lexicon format {content.get('format')}, this csrerank reads {FORMAT}; make it again with csrerank lexicon build")
        self._trie = trie
        self.source_lang, self.target_lang = content["source_lang"], content["target_lang"]
        self.sources = tuple(Source(**source) for source in content["sources"])
        self.longest, self.fingerprint, self._count = content["longest"], content["fingerprint"], content["words"]

    @classmethod
    def load(cls, path: str | Path) -> "StoredLexicon":
        """Map a file that ``save`` wrote. Raises ``InputError`` for any other."""
        import marisa_trie

        trie = marisa_trie.BytesTrie()
        try:
            # A damaged trie can take the process down with it, so the whole file is checked first: a millisecond for a megabyte.
            with open(path, "rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
                if blake2b(memoryview(content)[:-_CHECK], digest_size=_CHECK).digest() != content[-_CHECK:]:
                    raise ValueError
            trie.mmap(str(path))
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file; make it with csrerank lexicon build") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); name a file that csrerank lexicon build wrote") from error
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{path}: not a saved lexicon, or damaged; delete it and make it again (csrerank lexicon build)") from error
        return cls(trie, str(path))

    @classmethod
    def compiled(cls, entries: Iterable[Entry], source: Source, source_lang: str, target_lang: str) -> "StoredLexicon":
        """Compile the entries of one source; of a word's translations the ``MOST`` best are kept, each once. Scores above 1 are divided by the word's best.

        Raises ``ValueError`` for a score that is not a number above 0: sampling could not divide by it.
        """
        best: dict[str, dict[str, float]] = {}
        for word, translation, score in entries:
            if not 0 < score < math.inf:
                raise ValueError(f"{source.name}: score {score} of {word!r} into {translation!r}; scores are numbers above 0")
            key, text = key_of(word), normalize("NFC", " ".join(translation.split()))
            if key and text and not _UNFIT.search(key):
                known = best.setdefault(key, {})
                known[text] = max(score, known.get(text, 0.0))
        ranked = {}
        for key, known in best.items():
            top = max(1.0, *known.values())
            ranked[key] = [Translation(text, max(score / top, _LEAST), source.name) for text, score in sorted(known.items(), key=lambda item: -item[1])[:MOST]]
        return cls._of(ranked, (source,), source_lang, target_lang)

    @classmethod
    def stored(cls, lexicon: Lexicon) -> "StoredLexicon":
        """Any lexicon (a merged one, say) in one trie, with the sources and scores of its translations."""
        return cls._of({key: lexicon.translations(key)[:MOST] for key in lexicon}, lexicon.sources, lexicon.source_lang, lexicon.target_lang)

    @classmethod
    def _of(cls, ranked: Mapping[str, Sequence[Translation]], sources: tuple[Source, ...], source_lang: str, target_lang: str) -> "StoredLexicon":
        import marisa_trie

        places = {source.name: place for place, source in enumerate(sources)}
        if len(places) != len(sources):
            raise ValueError(f"sources of one name: {', '.join(source.name for source in sources)}")
        values, longest, digest = [], 1, blake2b(" ".join(places).encode(), digest_size=16)
        for key in sorted(ranked):
            longest = max(longest, key.count(" ") + 1)
            for rank, translation in enumerate(ranked[key]):
                value = _VALUE.pack(rank, translation.score, places[translation.source]) + translation.text.encode()
                values.append((key, value))
                digest.update(key.encode() + b"\0" + value + b"\n")
        header = {
            "format": FORMAT, "source_lang": source_lang, "target_lang": target_lang, "sources": [{**source._asdict(), "files": dict(source.files)} for source in sources],
            "longest": longest, "words": len(ranked), "fingerprint": digest.hexdigest(),
        }  # fmt: skip
        return cls(marisa_trie.BytesTrie([*values, (_HEADER, json.dumps(header).encode())]), "lexicon")

    def save(self, path: str | Path) -> None:
        """Write the lexicon as one file, which appears whole."""
        from csrerank.files import atomic

        content = self._trie.tobytes()
        with atomic(path) as stream:
            stream.write(content + blake2b(content, digest_size=_CHECK).digest())

    def translations(self, key: str) -> tuple[Translation, ...]:
        """The translations of ``key``, best first; none where the lexicon lacks it."""
        if not key or _UNFIT.search(key):
            return ()
        values = self._trie.get(key) or ()
        return tuple(self._translation(value) for value in values)

    def _translation(self, value: bytes) -> Translation:
        _, score, place = _VALUE.unpack_from(value)
        return Translation(value[_VALUE.size :].decode(), score, self.sources[place].name)

    def prefixes(self, text: str) -> list[str]:
        """Every key that ``text`` starts with, shortest first."""
        return self._trie.prefixes(_UNFIT.split(text, maxsplit=1)[0])

    def __iter__(self) -> Iterator[str]:
        previous = None
        for key in self._trie.iterkeys():
            if key not in (previous, _HEADER):
                yield key
            previous = key

    def __len__(self) -> int:
        return self._count


class Merged(Lexicon):
    """Several lexicons of one language pair as one: a word's translations from the first come first, then those that only the second has, and so on.

    Sources that the parts share are one; different ones of one name (two files in the form of ``muse``, say) are told apart as *muse* and *muse (2)*.
    """

    def __init__(self, parts: Sequence[Lexicon]) -> None:
        pairs = {(part.source_lang, part.target_lang) for part in parts}
        if len(pairs) != 1:
            raise InputError(f"lexicons of different language pairs cannot be merged: {', '.join(sorted(f'{s}-{t}' for s, t in pairs)) or 'none given'}")
        self.parts = tuple(parts)
        ((self.source_lang, self.target_lang),) = pairs
        self.sources, self._names = _told_apart(self.parts)
        self.longest = max(part.longest for part in parts)
        self.fingerprint = blake2b(" ".join(part.fingerprint for part in parts).encode(), digest_size=16).hexdigest()

    def translations(self, key: str) -> tuple[Translation, ...]:
        """The translations of ``key`` by precedence of the parts, each text once."""
        found: dict[str, Translation] = {}
        for part, names in zip(self.parts, self._names, strict=True):
            for translation in part.translations(key):
                if translation.text not in found:
                    found[translation.text] = translation._replace(source=names[translation.source]) if names else translation
        return tuple(found.values())

    def prefixes(self, text: str) -> list[str]:
        """Every key of any part that ``text`` starts with, shortest first."""
        return sorted({prefix for part in self.parts for prefix in part.prefixes(text)}, key=len)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({key for part in self.parts for key in part}))

    def __len__(self) -> int:
        return len({key for part in self.parts for key in part})


def _told_apart(parts: Sequence[Lexicon]) -> tuple[tuple[Source, ...], list[dict[str, str]]]:
    """The parts' sources under names of their own, each source once; and for each part new name by old, nothing where none is changed."""
    given: list[Source] = []
    named: dict[str, Source] = {}
    renamed = []
    for part in parts:
        names = {}
        for source in part.sources:
            plain = source._replace(name=_NUMBER.sub("", source.name))  # it may have been told apart in an earlier mix
            if plain not in given:
                free = chain([plain.name], (f"{plain.name} ({number})" for number in count(2)))
                name = next(name for name in free if name not in named)
                named[name] = plain._replace(name=name)
                given.append(plain)
            names[source.name] = list(named)[given.index(plain)]
        renamed.append(names if any(old != new for old, new in names.items()) else {})
    return tuple(named.values()), renamed


_NUMBER = re.compile(r" \(\d+\)$")


def inverted(lexicon: Lexicon) -> Iterator[Entry]:
    """The entries of the other direction; a pair's score is divided by its rank, so that a word's main translation leads back to it."""
    for key in lexicon:
        for rank, translation in enumerate(lexicon.translations(key)):
            yield Entry(translation.text, key, translation.score / (1 + rank))
