"""Parallel Wikipedia titles: linguatools' XML (Wikipedia Parallel Titles Corpora) or two columns apart by a tab. No address is fixed: the user names a file."""

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from csrerank.errors import InputError
from csrerank.lexicons.lexicon import Entry
from csrerank.lexicons.registry import Skipped, register
from csrerank.lexicons.senses import LONGEST, simplified
from csrerank.lines import opened, read_lines, source_name

NAME, LICENCE = "titles", "CC BY-SA 3.0"
_BRACKETS = re.compile(r"\s*[(\uff08][^()\uff08\uff09]*[)\uff09]\s*$")
_NAMESPACE = re.compile(r"^\w+:(?=\S)")
_BARE = 0.5  # score of a title without its qualifier: Mercury for Mercury (planet)


def read(path: str | Path, source_lang: str, target_lang: str, skipped: Skipped) -> Iterator[Entry]:
    """Titles of at most three words with their counterparts. A qualifier in brackets goes on both sides, and one on the left lowers the score to a half.

    Raises ``InputError`` for a file of neither form, one cut off, and one without the two languages.
    """
    name = source_name(path)
    with opened(path, name) as stream:
        try:
            is_xml = stream.read(64).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<")
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(f"{name}: damaged or cut off ({error}); fetch it again") from None
    pairs = _xml(path, source_lang, target_lang) if is_xml else _tsv(path)
    for title, counterpart in pairs:
        if bool(_NAMESPACE.match(title)) and bool(_NAMESPACE.match(counterpart)):
            title, counterpart = _NAMESPACE.sub("", title), _NAMESPACE.sub("", counterpart)
        word, translation = _BRACKETS.sub("", title), _BRACKETS.sub("", counterpart)
        if not word or not translation or len(word.split()) > LONGEST:
            skipped["titles that are empty or longer than three words"] += 1
            continue
        yield Entry(word, simplified(translation) if target_lang == "zh" else translation, 1.0 if word == title.strip() else _BARE)


def _tsv(path: str | Path) -> Iterator[tuple[str, str]]:
    for number, line in read_lines(path):
        columns = line.split("\t")
        if len(columns) != 2:
            raise InputError(f"{source_name(path)}:{number}: {len(columns)} columns where parallel titles have two (title, tab, title); mend the line")
        yield columns[0], columns[1]


def _xml(path: str | Path, source_lang: str, target_lang: str) -> Iterator[tuple[str, str]]:
    """Each element that holds ``<entry lang="xx">title</entry>`` children is one pair; it is dropped once read, so memory stays flat."""
    name, found = source_name(path), 0
    with opened(path, name) as stream:
        parser = ElementTree.iterparse(stream, events=("start", "end"))
        try:
            _, root = next(parser)
            for event, element in parser:
                children = element.findall("entry") if event == "end" else []
                titles = {child.get("lang"): (child.text or "").strip() for child in children}
                if source_lang in titles and target_lang in titles:
                    found += 1
                    yield titles[source_lang], titles[target_lang]
                if children:
                    root.clear()
        except (ElementTree.ParseError, EOFError, OSError, zlib.error) as error:
            raise InputError(f"{name}: damaged or cut off ({error}); fetch it again") from None
    if not found:
        raise InputError(f'{name}: no element with <entry lang="{source_lang}"> and <entry lang="{target_lang}">; is it a file of other languages?')


register(NAME, LICENCE, read=read)
