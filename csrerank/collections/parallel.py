"""Collections that stand in several languages in parallel: CLIR pairs and multilingual (MLIR) tracks over one loader."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from csrerank.collections.catalogue import BINARY_GRADES, Documentation, LanguageQuery, MemoryDocs, MemoryQrels, MemoryQueries, register_once
from csrerank.collections.sampling import draw_language


class ParallelDoc(NamedTuple):
    """A document in one language.

    ``unit`` is what is parallel, and what a language is drawn for in an MLIR track: the document itself, or the paragraph that a sentence stands in;
    ``context`` is that paragraph's text.
    """

    doc_id: str
    text: str
    context: str
    lang: str
    unit: str

    def default_text(self) -> str:
        """The text alone; context is an option of the caller's."""
        return self.text


class Edition(NamedTuple):
    """A parallel collection in one language: documents in order, topics ``id -> text``, and judgements ``(topic, document, grade)``."""

    documents: list[ParallelDoc]
    topics: dict[str, str]
    judgements: list[tuple[str, str, int]]


class Parallel(NamedTuple):
    """A parallel collection: ``name`` of its ids, its languages, ``edition(language, unit)`` which loads one, and the meaning of its grades.

    ``edition`` is called when a handler is first asked, never while registering.
    """

    name: str
    languages: Sequence[str]
    edition: Callable[[str, str], Edition]
    grades: dict[int, str] = BINARY_GRADES


def mixed_documents(collection: Parallel, languages: Sequence[str], unit: str) -> list[ParallelDoc]:
    """An MLIR track's documents: one copy of each unit, in the language drawn for it, in the order of the first language."""
    drawn: dict[str, list[ParallelDoc]] = {}
    for lang in languages:
        for document in collection.edition(lang, unit).documents:
            if draw_language(languages, "doc", document.unit) == lang:
                drawn.setdefault(document.unit, []).append(document)
    order = dict.fromkeys(document.unit for document in collection.edition(languages[0], unit).documents)
    return [document for key in order for document in drawn.get(key, [])]


def mixed_judgements(collection: Parallel, languages: Sequence[str], unit: str) -> list[tuple[str, str, int]]:
    """The judgements of an MLIR track: those of each document's drawn language."""
    chosen = {(document.lang, document.doc_id) for document in mixed_documents(collection, languages, unit)}
    rows = [row for lang in languages for row in collection.edition(lang, unit).judgements if (lang, row[1]) in chosen]
    order = {topic: place for place, topic in enumerate(collection.edition(languages[0], unit).topics)}
    return sorted(rows, key=lambda row: (order[row[0]], row[1]))


def mixed_topics(collection: Parallel, languages: Sequence[str], unit: str) -> list[LanguageQuery]:
    """An MLIR track's topics: each in the language drawn for it."""
    editions = {lang: collection.edition(lang, unit).topics for lang in languages}
    drawn = {topic: draw_language(languages, "query", topic) for topic in editions[languages[0]]}
    return [LanguageQuery(topic, editions[lang][topic], lang) for topic, lang in drawn.items()]


def register_parallel(collection: Parallel, tracks: Mapping[str, Sequence[str]], units: Mapping[str, str], documentation: Documentation) -> None:
    """Register all ordered pairs ``{q}-{d}`` and, for each group of ``tracks`` (``x4``: its languages), ``x4-en``, ``en-x4`` and ``x4-x4``.

    ``units`` maps an id's suffix (``""``, ``/paragraphs``) to the unit that it loads. A single language in the place of a group is a monolingual side.
    """
    sides: dict[str, Sequence[str]] = {lang: [lang] for lang in collection.languages} | dict(tracks)
    register_once(collection.name, documentation("_"))
    for suffix, unit in units.items():
        documents = {
            side: MemoryDocs(_documents(collection, languages, unit), f"{collection.name}/{side}{suffix}", _only(languages), ParallelDoc)
            for side, languages in sides.items()
        }
        topics = {
            side: MemoryQueries(_topics(collection, languages, unit), f"{collection.name}/{side}", _only(languages), LanguageQuery)
            for side, languages in sides.items()
        }
        qrels = {side: MemoryQrels(_judgements(collection, languages, unit), collection.grades) for side, languages in sides.items()}
        for query in sides:
            for document in sides:
                tracked = query in tracks or document in tracks
                if tracked and not {query, document} <= {"en", query if query in tracks else document}:
                    continue  # of the MLIR tracks only x-en, en-x and x-x, with one group, are the field's
                kind = "track" if tracked else "pair"
                register_once(
                    f"{collection.name}/{query}-{document}{suffix}", documents[document], topics[query], qrels[document], documentation(kind + suffix)
                )


def _only(languages: Sequence[str]) -> str | None:
    return languages[0] if len(languages) == 1 else None


def _documents(collection: Parallel, languages: Sequence[str], unit: str) -> Callable[[], Any]:
    return lambda: collection.edition(languages[0], unit).documents if len(languages) == 1 else mixed_documents(collection, languages, unit)


def _topics(collection: Parallel, languages: Sequence[str], unit: str) -> Callable[[], Any]:
    if len(languages) == 1:
        return lambda: (LanguageQuery(topic, text, languages[0]) for topic, text in collection.edition(languages[0], unit).topics.items())
    return lambda: mixed_topics(collection, languages, unit)


def _judgements(collection: Parallel, languages: Sequence[str], unit: str) -> Callable[[], Any]:
    return lambda: collection.edition(languages[0], unit).judgements if len(languages) == 1 else mixed_judgements(collection, languages, unit)
