"""Wiktionary extracts (open-dsl-dict): ``word {pos} (gloss) :: translations`` as text, or the same as ABBYY Lingvo DSL (UTF-16, gzip). Words and names apart."""

import re
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from csrerank.errors import InputError
from csrerank.languages import LANGUAGES as ALL_LANGUAGES
from csrerank.lexicons.lexicon import Entry, key_of
from csrerank.lexicons.registry import Skipped, content, fetched, published, register, versions
from csrerank.lexicons.senses import LONGEST, Sense, cleaned, ranked, turned
from csrerank.lines import read_lines, source_name

NAME, LICENCE = "wiktionary", "CC BY-SA 3.0 / GFDL"
LANGUAGES = ("ar", "de", "el", "es", "fr", "hi", "id", "it", "ja", "ko", "nl", "pt", "ru", "tr", "vi", "zh")
_CALLED = {"Standard_Arabic": "Arabic", "Mandarin": "Chinese"}  # where the extracts' names of languages differ from ours


class Line(NamedTuple):
    """One line of an extract: a sense of a headword. ``translations`` is the column as it stands there; ``see`` is the headword that it refers to."""

    word: str
    pos: str
    see: str
    translations: str


_LEFT = re.compile(r"(?P<word>[^{]+?) (?:\{(?P<pos>[^}]*)\}|(?=\()).*?(?:SEE: (?P<see>.+?)\s*)?$")
_LABELS = re.compile(
    r"\[[^\]]*\]?"  # [qualifier]
    r"|\{\{?[^}]*\}?\}?"  # {gender}
    r"|(?:^|(?<=[\s\]})]))/.*?(?:/(?=[\s,;\[{(]|$)|$)"  # /transliteration/
)
_PARENTHESES = re.compile(r"[(\uff08][^()\uff08\uff09]*[)\uff09]")
_APART = re.compile("[,;\u060c\u061b\u3001\uff0c\uff1b]")


def _text(path: str | Path) -> Iterator[tuple[int, str]]:
    """The lines of an extract, those of a DSL file in the form of the text ones."""
    unpacked = content(path)
    wide = unpacked[:2] in (b"\xff\xfe", b"#\0")
    if not wide and not unpacked.startswith(b"#NAME"):
        yield from read_lines(BytesIO(unpacked), name=source_name(path))
        return
    try:
        text = unpacked.decode("utf-16-le" if wide else "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(f"{source_name(path)}: not a whole DSL file in UTF-16 (byte {error.start + 1}); fetch it again") from None
    yield from _dsl(text)


_DSL_POS = re.compile(r"\[p\]<(.*?)>\[/p\]")
_DSL_TAG = re.compile(r"(?<!\\)\[/?[^\]]*\]")


def _plain(line: str) -> str:
    return re.sub(r"\\(.)", r"\1", _DSL_TAG.sub("", _DSL_POS.sub(r"{\1}", line))).strip()


def _dsl(text: str) -> Iterator[tuple[int, str]]:
    """Cards of a DSL file: the headword at the line's start, then indented its part of speech and gloss, then in [m1] the translations."""
    word = about = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            yield number, line
        elif line[:1] in ("\t", " "):
            if "[m" in line:
                yield number, f"{word} {about} :: {_plain(line)}"
            elif "SEE:" in line:
                yield number, f"{word} {about} {_plain(line).replace('<<', '').replace('>>', '')} ::"
            else:
                about = _plain(line).removeprefix("~").strip()
        elif line.strip():
            word = re.sub(r"\\(.)", r"\1", line.strip())


def _check_languages(line: str, name: str, source_lang: str, target_lang: str) -> None:
    """Refuse a file whose head names another language pair."""
    if pair := re.match(r"# (\S+) :: (\S+) dictionary", line):
        found = [_CALLED.get(lang, lang) for lang in pair.groups()]
        wanted = [ALL_LANGUAGES[source_lang].name, ALL_LANGUAGES[target_lang].name]
    elif pair := re.match(r'#(?:INDEX|CONTENTS)_LANGUAGE "(.*)"', line):
        found = [_CALLED.get(pair[1], pair[1])]
        wanted = [ALL_LANGUAGES[source_lang if line.startswith("#INDEX") else target_lang].name]
    else:
        return
    if found != wanted:
        raise InputError(f"{name}: the file says that it is {' :: '.join(found)}, not {' :: '.join(wanted)}; name its own languages")


def lines(path: str | Path, source_lang: str, target_lang: str, skipped: Skipped) -> Iterator[Line]:
    """The lines of an extract. Raises ``InputError`` where the file is no extract at all, or one of other languages; a line in disorder is skipped."""
    name, found = source_name(path), 0
    for _, line in _text(path):
        if line.startswith("#"):
            _check_languages(line, name, source_lang, target_lang)
            continue
        left, mark, right = f"{line} ".partition(" :: ")
        parsed = _LEFT.match(left) if mark else None
        if parsed is None:
            skipped["lines without word, part of speech and ::"] += 1
            continue
        found += 1
        yield Line(parsed["word"].strip(), parsed["pos"] or "", parsed["see"] or "", right)
    if not found:
        raise InputError(f"{name}: no line of the form `word {{pos}} (gloss) :: translations`; this is no Wiktionary extract")


def translations(column: str, lang: str) -> list[str]:
    """The translations in a column, cleaned, in order, each once.

    >>> translations("Amt {n} (Swiss), [formal] Behörde {f} /transliteration/", "de")
    ['Amt', 'Behörde']
    """
    column = _LABELS.sub(" ", column)
    while (bare := _PARENTHESES.sub(" ", column)) != column:
        column = bare
    pieces = (_without_label(piece, lang) for piece in _APART.split(column))
    return list(dict.fromkeys(text for piece in pieces if (text := cleaned(piece, lang))))


def _without_label(piece: str, lang: str) -> str:
    """``piece`` without a dialect's or a form's name before a colon."""
    label, colon, text = piece.partition(": ")
    return text if colon and (ALL_LANGUAGES[lang].script == "Latin" or not cleaned(label, lang)) else piece


def _is_name(line: Line) -> bool:
    return line.pos == "prop" or " " in line.word


def _senses(found: Iterable[Line], lang: str, names: bool) -> Iterator[Sense]:
    """The senses of the names, or of all others. A word that has nothing but references (SEE: ...) takes the translations of the words referred to."""
    columns: dict[tuple[str, str], list[str]] = {}
    references: list[Line] = []
    own: set[str] = set()
    for line in found:
        texts = [] if line.see else translations(line.translations, lang)
        if texts:
            columns.setdefault((line.word, line.pos), []).extend(texts)
        if _is_name(line) == names and line.word.count(" ") < LONGEST and line.word[0] != "-" and line.word[-1] != "-":
            if line.see:
                references.append(line)
            elif texts:
                own.add(key_of(line.word))
                yield Sense(line.word, texts)
    for line in references:
        if key_of(line.word) not in own and (texts := columns.get((line.see, line.pos), [])):
            yield Sense(line.word, list(dict.fromkeys(texts)))


def read(path: str | Path, source_lang: str, target_lang: str, skipped: Skipped) -> Iterator[Entry]:
    """The single words of an extract, proper names left out."""
    return ranked(_senses(lines(path, source_lang, target_lang, skipped), target_lang, names=False), source_lang, target_lang)


def read_names(path: str | Path, source_lang: str, target_lang: str, skipped: Skipped) -> Iterator[Entry]:
    """The proper names and the entries of two or three words."""
    return ranked(_senses(lines(path, source_lang, target_lang, skipped), target_lang, names=True), source_lang, target_lang)


def entries(source_lang: str, target_lang: str) -> Iterator[Entry]:
    """The single words of the extract that open-dsl-dict publishes."""
    return read(fetched(NAME, f"{source_lang}-{target_lang}"), source_lang, target_lang, Skipped())


def inputs(source_lang: str, target_lang: str) -> Mapping[str, str]:
    """The file that ``entries`` reads, and wordfreq, which ranks and simplifies."""
    name = f"{source_lang}-{target_lang}"
    return {name: published(NAME)[name], **versions("wordfreq")}


register(NAME, LICENCE, entries=entries, languages=LANGUAGES, inputs=inputs, version="2", turn=turned, read=read)
