"""FreeDict dictionaries as dictd databases, from Debian's packages. Their layouts differ: see ``senses_of``."""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from pathlib import Path

from csrerank.errors import InputError
from csrerank.lexicons.dictd import Database, files_of
from csrerank.lexicons.lexicon import Entry
from csrerank.lexicons.registry import Skipped, fetched, published, register, versions
from csrerank.lexicons.senses import LONGEST, Sense, cleaned, ranked, turned
from csrerank.lines import source_name

NAME, LICENCE = "freedict", "GPL-2.0-or-later (de: GPL-3.0-or-later and AGPL-3.0; id, ja: CC BY-SA 3.0)"
LICENCES = {"fi": "CC BY-SA 3.0"}  # apart from that line, which the other languages' saved lexicons hold: those stay as models were trained with them
LANGUAGES = ("ar", "de", "el", "es", "fi", "fr", "hi", "id", "it", "ja", "nl", "pt", "ru", "tr")

_NUMBERED = re.compile(r"\s*\d+\.\s+(.*)$")
_NO_TRANSLATION = re.compile(r"\s*(?:\"|Note:|Synonyms?:|Antonyms?:|see:|\d+\.\s*$)")
_LABELS = re.compile(r"<[^>]*>|\[[^\]]*\]|\{[^}]*\}| \d+\.$|\.\s.*$")
_PARENTHESES = re.compile(r"\([^()]*\)?")
_APART = re.compile("[,;\u060c\u061b\u3001]|  ")
_EXAMPLE = '\n      "'
_USUAL = 1.5  # weight of a sense with an example: German P@1 .659 in place of .650 (MUSE's words 0-5,000)


def _head(entry: str) -> tuple[str, str, str]:
    """An entry's first line, ``word /pronunciation/ <part of speech>``, in its three parts."""
    line = entry.partition("\n")[0].rstrip()
    pos = ""
    if line.endswith(">"):
        line, _, pos = line.rpartition(" <")
    word, _, sound = line.partition(" /")
    return word, sound, pos.rstrip(">")


def senses_of(entry: str, source_lang: str, target_lang: str) -> Iterator[Sense]:
    """The senses of one entry: a head, then translations in the next line, or in each numbered line.

    What else stands there is left: notes, examples in quotes, synonyms and references (Ding's eng-deu), explanations in English below each translation
    (WikDict's eng-fin, eng-ind and eng-jpn), phrases behind a full stop (eng-tur). Suffixes and prefixes are left, and heads of more than three words.
    """
    word, _, pos = _head(entry)
    if word.count(" ") > 3 * LONGEST:
        return
    head = cleaned(_bare(word), source_lang)
    if not head or head.count(" ") >= LONGEST or pos in ("suffix", "prefix"):
        return
    weight = _USUAL if _EXAMPLE in entry else 1.0
    first = True
    for line in entry.split("\n")[1:]:
        start = line.lstrip()[:1]
        if not start:
            continue
        numbered = _NUMBERED.match(line) if start.isdigit() else None
        if (first or numbered) and not _NO_TRANSLATION.match(line) and (texts := _translations(numbered[1] if numbered else line, target_lang)):
            yield Sense(head, texts, weight)
        first = False


@lru_cache(1 << 10)  # Ding's synonyms stand together, each with the same translations
def _translations(line: str, lang: str) -> tuple[str, ...]:
    texts = (cleaned(piece, lang) for piece in _APART.split(_bare(line)))
    return tuple(dict.fromkeys(text for text in texts if text))


def _bare(text: str) -> str:
    """``text`` without labels and parentheses."""
    if "(" in text:
        text = _PARENTHESES.sub(" ", _PARENTHESES.sub(" ", text))
    return _LABELS.sub(" ", text) if "<" in text or "[" in text or "{" in text or "." in text else text


def _whole(entries: Iterable[str]) -> Iterator[str]:
    """The entries whose head is whole. Eng-spa lost the further words of many heads, but not their pronunciation: *house* /haus/, *house* /haustʃɑːdʒ/."""
    kept = list(entries)
    shortest: dict[str, str] = {}
    for entry in kept:
        word, sound, _ = _head(entry)
        shortest[word] = min(shortest.get(word, sound), sound, key=len)
    for entry in kept:
        word, sound, _ = _head(entry)
        if len(sound) <= len(shortest[word]) + 2:
            yield entry


def _senses(entries: Iterable[str], source_lang: str, target_lang: str, skipped: Skipped) -> Iterator[Sense]:
    for entry in entries:
        found = False
        for sense in senses_of(entry, source_lang, target_lang):
            found = True
            yield sense
        if not found:
            skipped["entries without a short head and a translation"] += 1


def read(path: str | Path, source_lang: str, target_lang: str, skipped: Skipped) -> Iterator[Entry]:
    """The words, names and short phrases of a dictd database or of the Debian package that holds it. Raises ``InputError`` for what is neither."""
    texts = Database.open(path).entries()
    senses = _senses(_whole(texts) if target_lang == "es" else texts, source_lang, target_lang, skipped)
    first = next(senses, None)
    if first is None:
        raise InputError(f"{source_name(path)}: no entry with a translation into {target_lang}; is it a dictionary of other languages?")
    return ranked(chain([first], senses), source_lang, target_lang)


def entries(source_lang: str, target_lang: str) -> Iterator[Entry]:
    """The dictionary that Debian packages."""
    return read(fetched(NAME, f"{source_lang}-{target_lang}"), source_lang, target_lang, Skipped())


def inputs(source_lang: str, target_lang: str) -> Mapping[str, str]:
    """The file that ``entries`` reads, and wordfreq, which ranks and simplifies."""
    name = f"{source_lang}-{target_lang}"
    return {name: published(NAME)[name], **versions("wordfreq")}


register(NAME, LICENCE, entries=entries, languages=LANGUAGES, inputs=inputs, version="2", turn=turned, read=read, files_of=files_of, licences=LICENCES)
