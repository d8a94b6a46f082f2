"""Inflected words by their lemma: what a dictionary lacks as *houses* it may have as *house*. The lemma's translations then stand for it, scored lower."""

from collections.abc import Iterator, Mapping
from functools import partial

from csrerank.lexicons import freedict, wiktionary
from csrerank.lexicons.lexicon import Entry, Lexicon, key_of
from csrerank.lexicons.registry import SOURCES, register, versions

WORDS = 100_000  # of wordfreq's list, the most frequent first
DISCOUNT = 0.5
_VERSION = "2"
# Those of csrerank's languages that simplemma has; wordfreq has them too.
LEMMATISED = frozenset({"ar", "de", "el", "en", "es", "fi", "fr", "hi", "id", "it", "nl", "pt", "ru", "tr"})


def inflected(lexicon: Lexicon) -> Iterator[Entry]:
    """Entries for the frequent words that ``lexicon`` lacks, of which it has the lemma (simplemma's). A lexicon of which no lemmas are known gives none."""
    import simplemma
    from wordfreq import top_n_list

    if lexicon.source_lang not in LEMMATISED:
        return
    for word in top_n_list(lexicon.source_lang, WORDS):
        key = key_of(word)
        if key in lexicon:
            continue
        lemma = key_of(simplemma.lemmatize(word, lang=lexicon.source_lang))
        if lemma != key:
            for translation in lexicon.translations(lemma):
                yield Entry(word, translation.text, translation.score * DISCOUNT)


def _entries(base: str, source_lang: str, target_lang: str) -> Iterator[Entry]:
    from csrerank.lexicons.catalogue import find

    return inflected(find(base, source_lang, target_lang))


def _inputs(base: str, source_lang: str, target_lang: str) -> Mapping[str, str]:
    straight = (source_lang, target_lang) if source_lang == "en" else (target_lang, source_lang)
    return {**SOURCES[base].inputs(*straight), **versions("simplemma", "wordfreq")}


for _base in (SOURCES[wiktionary.NAME], SOURCES[freedict.NAME]):
    register(
        f"{_base.name}-lemmas", _base.licence, entries=partial(_entries, _base.name), languages=_base.languages, inputs=partial(_inputs, _base.name),
        version=f"{_VERSION}.{_base.version}", both=True, licences=_base.licences,
    )  # fmt: skip
