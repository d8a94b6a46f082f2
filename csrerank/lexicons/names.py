"""Names and phrases: Wiktionary's proper names and its entries of two or three words, then CLDR's names. They stand in where there are no parallel titles."""

from collections.abc import Iterator, Mapping

from csrerank.lexicons import cldr, wiktionary
from csrerank.lexicons.lexicon import Entry
from csrerank.lexicons.registry import SOURCES, Skipped, fetched, register
from csrerank.lexicons.senses import turned

NAME, LICENCE = "names", f"{wiktionary.LICENCE}; {cldr.LICENCE}"
_VERSION = "1"


def entries(source_lang: str, target_lang: str) -> Iterator[Entry]:
    """Wiktionary's, scored above a half, and CLDR's, scored a half."""
    if target_lang in wiktionary.LANGUAGES:
        path = fetched(wiktionary.NAME, f"{source_lang}-{target_lang}")
        for word, translation, score in wiktionary.read_names(path, source_lang, target_lang, Skipped()):
            yield Entry(word, translation, 0.5 + score / 2)
    for word, translation, score in cldr.entries(source_lang, target_lang):
        yield Entry(word, translation, score / 2)


def inputs(source_lang: str, target_lang: str) -> Mapping[str, str]:
    """Wiktionary's extract and wordfreq, where there is one, and babel's version."""
    extract = wiktionary.inputs(source_lang, target_lang) if target_lang in wiktionary.LANGUAGES else {}
    return {**extract, **cldr.inputs(source_lang, target_lang)}


_VERSIONS = ".".join((_VERSION, SOURCES[wiktionary.NAME].version, SOURCES[cldr.NAME].version))
register(NAME, LICENCE, entries=entries, languages=cldr.LANGUAGES, inputs=inputs, version=_VERSIONS, turn=turned)
