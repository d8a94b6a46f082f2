"""What strategies share: the record of a switch, a text cut at its words, the keyed draws, and tables of what words may become.

What is random comes from SHAKE-128 over (seed, epoch, side, id, rule): word n of a text always meets the same 64 bits, wherever, whenever and in whatever order
texts are switched. Their low 24 bits decide whether the word switches, the next 20 draw its language, the last 20 its translation.
"""

import struct
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from hashlib import shake_128
from itertools import accumulate
from typing import NamedTuple

from csrerank.codeswitch.policy import Rule
from csrerank.lexicons.lexicon import Lexicon, Translation, key_of
from csrerank.words import FUNCTION_WORDS, split, with_case_of

P_BITS, DRAW_BITS = 24, 20
P_MASK, DRAW_MASK = (1 << P_BITS) - 1, (1 << DRAW_BITS) - 1
_MOST_CACHED = 500_000  # words a table remembers, so that memory stays flat over any collection


class Switch(NamedTuple):
    """One replacement: ``original`` stood at ``start:end`` (characters) of the original text; ``rank`` counts the lexicon's translations from 0."""

    start: int
    end: int
    original: str
    replacement: str
    lang: str
    source: str
    rank: int


class Option(NamedTuple):
    """What one written word may become: the end of its record."""

    replacement: str
    lang: str
    source: str
    rank: int


class Table(dict[str, "Option | None"]):
    """Written word -> its best translation in one language, filled as words are met; None where there is none."""

    def __init__(self, lexicon: Lexicon, rule: Rule, keys: Callable[[str], Sequence[str]] = lambda key: (key,)) -> None:
        super().__init__()
        self.lexicon, self.lang, self._source = lexicon, lexicon.target_lang, rule.source
        self._function_words, self._sampled, self._keys = rule.function_words, rule.choose == "sampled", keys
        self._shares: dict[str, tuple[list[int], list[Option]]] = {}

    def __missing__(self, word: str) -> "Option | None":
        if len(self) >= _MOST_CACHED:
            self.clear()
        found = self._translations(word)
        option = self[word] = self._option(word, 0, found[0]) if found else None
        return option

    def _translations(self, word: str) -> Sequence[Translation]:
        key = key_of(word)
        if not self._function_words and key in FUNCTION_WORDS:
            return ()
        return next(filter(None, map(self.lexicon.translations, self._keys(key))), ())

    def _option(self, word: str, rank: int, translation: Translation) -> Option:
        return Option(with_case_of(translation.text, word, self.lang, self._source), self.lang, translation.source, rank)

    def drawn(self, word: str, draw: int) -> "Option | None":
        """What ``word`` becomes: its best translation, or where the rule samples, the one that the last 20 bits of ``draw`` choose by score."""
        if not self._sampled or self[word] is None:
            return self[word]
        if word not in self._shares:
            if len(self._shares) >= _MOST_CACHED:
                self._shares.clear()
            found = self._translations(word)
            shares = list(accumulate(translation.score for translation in found))
            bounds = [round(share / shares[-1] * (1 << DRAW_BITS)) for share in shares[:-1]]
            self._shares[word] = bounds, [self._option(word, rank, translation) for rank, translation in enumerate(found)]
        bounds, options = self._shares[word]
        return options[bisect_right(bounds, draw >> (P_BITS + DRAW_BITS))]


class Lexicons:
    """The lexicons that policies name, found once each, and the tables of what words become. Cheap to make; every process makes its own, and the files under
    it are shared memory.

    :param given: lexicons by (mix, source language, target language) that are taken in place of what the catalogue would find.
    :param quiet: show no progress where a lexicon must be compiled first.
    """

    def __init__(self, given: Mapping[tuple[str, str, str], Lexicon] | None = None, quiet: bool = False) -> None:
        self._found, self._quiet = dict(given or {}), quiet
        self._tables: dict[tuple[Rule, str], Table] = {}

    def find(self, mix: str, source_lang: str, target_lang: str) -> Lexicon:
        """The lexicon of this name. Raises ``InputError`` where there is none for the pair."""
        name = (mix, source_lang, target_lang)
        if name not in self._found:
            from csrerank.lexicons.catalogue import find

            self._found[name] = find(*name, quiet=self._quiet)
        return self._found[name]

    def table(self, rule: Rule, lang: str, keys: Callable[[str], Sequence[str]] | None = None) -> Table:
        """What words become in ``lang`` under ``rule``; ``keys`` gives the keys to try for a word, in order."""
        table = self._tables.get((rule, lang))
        if table is None:
            lexicon = self.find(rule.lexicon, rule.source, lang)
            table = self._tables[(rule, lang)] = Table(lexicon, rule, keys) if keys else Table(lexicon, rule)
        return table


class Words(NamedTuple):
    """A text cut at its words: ``parts`` as ``words.split`` gives them, and where each part starts."""

    parts: list[str]
    starts: list[int]

    @classmethod
    def of(cls, text: str, lang: str) -> "Words":
        """Cut ``text``."""
        parts = split(text, lang)
        return cls(parts, [0, *accumulate(map(len, parts))])


def word_draws(key: str, count: int) -> tuple[int, ...]:
    """64 bits for each of ``count`` words."""
    return struct.unpack(f"<{count}Q", shake_128(key.encode("utf-8", "surrogatepass")).digest(8 * count))


def text_draw(key: str) -> float:
    """One number in [0, 1) for a whole text."""
    return (struct.unpack("<Q", shake_128(f"{key}\x1ftext".encode("utf-8", "surrogatepass")).digest(8))[0] >> 11) / 2**53


def apart_from(before: Sequence[Switch], records: Sequence[Switch]) -> list[Switch]:
    """The records that touch none of ``before``."""
    return [record for record in records if all(record.end <= other.start or other.end <= record.start for other in before)]
