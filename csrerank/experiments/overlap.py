"""Token overlap: how many words and numbers a topic shares with its relevant documents, as both are written in the track."""

import unicodedata
from collections.abc import Iterator

import regex

from csrerank.experiments.candidates import qrels_of
from csrerank.experiments.scale import Scale
from csrerank.experiments.tables import overlap_kind
from csrerank.experiments.tracks import Track
from csrerank.words import UNSPACED, words

_TOKEN = regex.compile(r"\w+")  # with the marks on letters, unlike the standard library's
_DIGITS = regex.compile(r"\p{Nd}+")
_DIGIT = regex.compile(r"\p{Nd}")


def tokens(text: str, lang: str) -> set[str]:
    """Words and numbers, case-folded and NFKC-normalised, digits of every script as ASCII. Scripts without spaces are cut as ``words.words`` does."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    plain = _DIGIT.sub(lambda match: str(unicodedata.decimal(match[0])), plain)
    return set(_unspaced(plain, lang) if lang in UNSPACED else _TOKEN.findall(plain))


def _unspaced(text: str, lang: str) -> Iterator[str]:
    yield from words(text, lang)
    yield from _DIGITS.findall(text)


def overlap_kinds(track: Track, scale: Scale) -> dict[str, str]:
    """Topic -> kind of overlap (``tables.OVERLAPS``) with its relevant documents together."""
    from csrerank.collections.texts import DatasetDocuments, dataset_topics

    topics, documents = dataset_topics(track.dataset).texts, DatasetDocuments(track.dataset)
    query_lang, document_lang = track.name.split("-")
    found = {}
    for topic, grades in qrels_of(track.dataset, scale.topics).items():
        relevant = documents.texts([document for document, grade in grades.items() if grade > 0])
        found[topic] = overlap_kind(tokens(topics[topic], query_lang), set().union(*(tokens(text, document_lang) for text in relevant.values())))
    return found
