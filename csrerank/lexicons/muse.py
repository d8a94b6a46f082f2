"""MUSE dictionaries (Conneau et al. 2018): one pair of words a line, the source word's best translation first. Non-commercial: for experiments only."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from csrerank.errors import InputError
from csrerank.lexicons.lexicon import Entry
from csrerank.lexicons.registry import Skipped, fetched, published, register
from csrerank.lines import read_lines, source_name

NAME, LICENCE = "muse", "CC BY-NC 4.0 (non-commercial: for experiments and evaluation only)"
LANGUAGES = ("ar", "de", "el", "es", "fr", "hi", "id", "it", "ja", "nl", "pt", "ru", "th", "tr", "vi", "zh")


def read(path: str | Path, source_lang: str, target_lang: str, skipped: Skipped) -> Iterator[Entry]:
    """The pairs of a file with lines of two words apart by a tab or a space; a word's n-th translation scores 1/n. Pairs of equal words (names) are kept.

    Raises ``InputError`` at a line that has not two words.
    """
    seen: dict[str, int] = {}
    for number, line in read_lines(path):
        pair = line.split("\t") if "\t" in line else line.split(" ")
        if len(pair) != 2 or not all(word.strip() for word in pair):
            raise InputError(
                f"{source_name(path)}:{number}: {len(line.split())} words where a MUSE dictionary has two, a tab or a space between; mend the line"
            )
        word, translation = pair
        rank = seen[word] = seen.get(word, 0) + 1
        yield Entry(word, translation, 1 / rank)


def _file(source_lang: str, target_lang: str) -> str:
    return f"{source_lang}-{target_lang}"


def entries(source_lang: str, target_lang: str) -> Iterator[Entry]:
    """The published dictionary of one direction."""
    return read(fetched(NAME, _file(source_lang, target_lang)), source_lang, target_lang, Skipped())


def inputs(source_lang: str, target_lang: str) -> Mapping[str, str]:
    """The file that ``entries`` reads."""
    name = _file(source_lang, target_lang)
    return {name: published(NAME)[name]}


register(NAME, LICENCE, entries=entries, languages=LANGUAGES, inputs=inputs, both=True, read=read)
