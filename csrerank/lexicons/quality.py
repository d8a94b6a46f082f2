"""How good a lexicon is: coverage of frequent words, identity rate, translations a word, and precision at 1 and 5 against a gold dictionary."""

import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from csrerank.errors import InputError
from csrerank.lexicons.lexicon import Entry, Lexicon, key_of

WORDS = 20_000
RANKS = (5_000, 6_500)  # the test words of MUSE's dictionaries
FORMATS = ("table", "tsv", "json")
_PLACEHOLDER = "{lang}"

Gold = Mapping[str, frozenset[str]]


class Precision(NamedTuple):
    """Gold words, the share of them that the lexicon has, P@1 and P@5 over all of them (a word without translation is wrong), and over those that it has."""

    words: int
    covered: float
    p1: float
    p5: float
    p1_covered: float
    p5_covered: float


class Quality(NamedTuple):
    """One row of the table: a lexicon into a language. ``coverage`` is of the most frequent words; ``translations`` of those covered, the mean."""

    lexicon: str
    language: str
    coverage: float
    identity: float
    translations: float
    gold: int
    gold_covered: float
    p1: float
    p5: float
    p1_covered: float
    p5_covered: float


def covered(lexicon: Lexicon, words: Iterable[str]) -> list[str]:
    """The keys of those of ``words`` that the lexicon translates."""
    return [key for word in words if (key := key_of(word)) in lexicon]


def coverage(lexicon: Lexicon, words: Sequence[str]) -> float:
    """The share of ``words`` that the lexicon translates; 0 of no words."""
    return _share(len(covered(lexicon, words)), len(words))


def identity_rate(lexicon: Lexicon, words: Iterable[str]) -> float:
    """Of those of ``words`` that the lexicon translates, the share whose best translation is spelled like the word."""
    keys = covered(lexicon, words)
    return _share(sum(key_of(lexicon.translations(key)[0].text) == key for key in keys), len(keys))


def translations_per_word(lexicon: Lexicon, words: Iterable[str]) -> float:
    """Translations of those of ``words`` that the lexicon translates, the mean."""
    keys = covered(lexicon, words)
    return _share(sum(len(lexicon.translations(key)) for key in keys), len(keys))


def gold_words(entries: Iterable[Entry], ranks: tuple[int, int] = RANKS) -> Gold:
    """The gold words of a dictionary and the keys of their translations: its source words, each once in the order of the file, at the places ``ranks``
    (from 0, the end not included).

    A translation spelled like any source word of the dictionary is left out, since copying would count as translating, and so is a word with no other.
    """
    found: dict[str, set[str]] = {}
    for word, translation, _ in entries:
        found.setdefault(key_of(word), set()).add(key_of(translation))
    kept = {word: frozenset(found[word] - found.keys()) for word in list(found)[slice(*ranks)]}
    return {word: translations for word, translations in kept.items() if translations}


def precision(lexicon: Lexicon, gold: Gold) -> Precision:
    """Precision at 1 and 5: the share of the gold words of which one of the lexicon's first 1 or 5 translations is a gold one, compared by ``key_of``."""
    known = at_1 = at_5 = 0
    for word, translations in gold.items():
        best = [key_of(translation.text) in translations for translation in lexicon.translations(word)[:5]]
        known += bool(best)
        at_1 += any(best[:1])
        at_5 += any(best)
    return Precision(len(gold), _share(known, len(gold)), _share(at_1, len(gold)), _share(at_5, len(gold)), _share(at_1, known), _share(at_5, known))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def measured(name: str, lexicon: Lexicon, words: Sequence[str], gold: Gold) -> Quality:
    """All measures of one lexicon: the first three over ``words``, the precision over ``gold``."""
    found = precision(lexicon, gold)
    return Quality(name, lexicon.target_lang, coverage(lexicon, words), identity_rate(lexicon, words), translations_per_word(lexicon, words), *found)


def quality(
    names: Sequence[str], languages: Sequence[str], gold: str = "muse", words: int = WORDS, ranks: tuple[int, int] = RANKS,
    remark: Callable[[str], object] = lambda text: None, quiet: bool = True,
) -> Iterator[Quality]:  # fmt: skip
    """A row for each lexicon and language, English into it, as soon as it is measured.

    :param names: as ``catalogue.find`` takes them; a row is left out where a source lacks the language.
    :param gold: ``muse``, or a file of lines with a word and its translation, with ``{lang}`` for the language where there are several.
    :param words: of wordfreq's most frequent English words that hold a letter.
    :param ranks: places in the gold dictionary.
    :param remark: called with a line for each row that is left out.
    :param quiet: show no progress on a terminal.
    :raises InputError: for what cannot be found or read, and where no gold word or no row is left.
    """
    from tqdm import tqdm

    from csrerank.languages import language
    from csrerank.lexicons.catalogue import find
    from csrerank.lexicons.vectors import word_list

    if not names or not languages:
        raise InputError("nothing to measure; give names of lexicons and --languages")
    if gold != "muse" and _PLACEHOLDER not in gold and len(languages) > 1:
        raise InputError(
            f"--gold {gold}: one file for {len(languages)} languages; write {_PLACEHOLDER} where the language stands in its name, or give one language"
        )
    frequent, empty = word_list("en", words), True
    with tqdm(total=len(names) * len(languages), desc="measuring", unit="lexicon", leave=False, disable=quiet or not sys.stderr.isatty()) as bar:
        for lang in languages:
            reference = gold_words(_gold_entries(gold, language(lang).code), ranks)
            if not reference:
                raise InputError(f"--gold {gold}: no gold words for {lang} at the places {ranks[0]}-{ranks[1]}; give others with --ranks")
            for name in names:
                bar.set_postfix_str(f"{name} en-{lang}")
                if lacking := _lacking(name, lang):
                    remark(f"{name} en-{lang}: left out; {lacking} has no {lang}")
                else:
                    empty = False
                    yield measured(name, find(name, "en", lang, quiet=quiet), frequent, reference)
                bar.update()
    if empty:
        raise InputError(f"nothing to measure: none of {' '.join(names)} has {' '.join(languages)}; give other lexicons or --languages")


def _lacking(name: str, lang: str) -> str | None:
    """The first part of the mix ``name`` that is a known source without the language; what is unknown is left for ``find`` to refuse."""
    from csrerank.lexicons.catalogue import languages_of, names

    return next((part for part in name.split("+") if part in names() and lang not in languages_of(part)), None)


def _gold_entries(gold: str, lang: str) -> Iterable[Entry]:
    from csrerank.lexicons import muse
    from csrerank.lexicons.registry import Skipped
    from csrerank.lexicons.senses import simplified

    if gold == "muse" and lang not in muse.LANGUAGES:
        raise InputError(f"{lang}: MUSE has no dictionary from English; it has {' '.join(muse.LANGUAGES)}; give a file with --gold")
    path = Path(gold.replace(_PLACEHOLDER, lang))
    entries = muse.entries("en", lang) if gold == "muse" else muse.read(path, "en", lang, Skipped())
    # MUSE's Chinese is traditional, our lexicons are simplified.
    return (entry._replace(translation=simplified(entry.translation)) for entry in entries) if lang == "zh" else entries


_HEADINGS = ("lexicon", "language", "coverage", "identity", "translations", "gold", "gold covered", "P@1", "P@5", "P@1 covered", "P@5 covered")


def shown(rows: Collection[Quality], form: str = "table") -> str:
    """The rows as an aligned ``table``, as ``tsv`` with a heading, or as ``json``: a list of objects; the last two with the values in full."""
    if form == "json":
        return json.dumps([row._asdict() for row in rows], indent=1)
    if form == "tsv":
        return "\n".join("\t".join(map(str, row)) for row in (Quality._fields, *rows))
    if form != "table":
        raise InputError(f"unknown format {form!r}; known are {' '.join(FORMATS)}")
    cells = [_HEADINGS, *(tuple(_cell(value) for value in row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
    return "\n".join("  ".join(_justified(line, widths)).rstrip() for line in cells)


def _cell(value: str | int | float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _justified(line: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for column, (cell, width) in enumerate(zip(line, widths, strict=True)):
        yield cell.ljust(width) if column < 2 else cell.rjust(width)
