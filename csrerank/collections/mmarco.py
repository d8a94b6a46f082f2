"""``csrerank/mmarco``: mMARCO's small development set across 14 languages, CLIR pairs and MLIR tracks composed of ir_datasets' handlers."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import ir_datasets
from ir_datasets.formats import BaseDocs
from ir_datasets.indices import DEFAULT_DOCSTORE_OPTIONS, Docstore

from csrerank.collections.catalogue import Component, Documentation, LanguageDoc, LanguageQuery, MemoryQueries, register_once
from csrerank.collections.sampling import SEED, draw_language
from csrerank.errors import InputError
from csrerank.languages import MMARCO, SEEN, language

NAME = "mmarco"
SPLIT = "dev/small"
ENGLISH = "msmarco-passage"  # mMARCO translates it and does not repeat it
TRACKS: dict[str, Sequence[str]] = {"x6": SEEN, "x14": MMARCO}


def collection_id(lang: str) -> str:
    """The ir_datasets id of the passages in this language (ISO 639-1): ``mmarco/v2/dt`` for Dutch, ``msmarco-passage`` for English.

    Raises ``InputError`` for a language that mMARCO lacks.
    """
    if lang not in MMARCO:
        raise InputError(f"mMARCO has no language {lang!r}; choose one of {' '.join(MMARCO)}")
    return ENGLISH if lang == "en" else f"mmarco/v2/{language(lang).mmarco}"


def topics_id(lang: str) -> str:
    """The ir_datasets id of the topics in this language, and of their judgements, which are the same file for every language."""
    return f"{collection_id(lang)}/{SPLIT}"


class MixedDocs(BaseDocs):
    """An MLIR track's documents: every passage once, as a ``LanguageDoc`` in the language drawn for its id.

    Nothing is held or copied: reading streams the languages' own files, looking up asks their own docstores.

    :param languages: ISO codes, in the order that the draw counts them in.
    :param namespace: the name of the ids with these languages.
    :param seed: of the draw.
    """

    def __init__(self, languages: Sequence[str], namespace: str, seed: int = SEED) -> None:
        self._languages, self._namespace, self._seed = tuple(languages), namespace, seed

    def _draw(self, doc_id: str) -> str:
        return draw_language(self._languages, "doc", doc_id, self._seed)

    def docs_iter(self) -> "InStep":
        """The documents in the collection's order. A slice or an index builds the languages' docstores, as it does in ir_datasets.

        Raises ``InputError``, while it is read, where the languages' files do not hold the same ids in the same order.
        """
        return InStep({lang: ir_datasets.registry[collection_id(lang)].docs_iter() for lang in self._languages}, self._draw)

    def docs_store(self, field: str = "doc_id", options: Any = DEFAULT_DOCSTORE_OPTIONS) -> "MixedStore":
        """Documents by id. ``options`` are ir_datasets', for every language's docstore; raises ``InputError`` for another ``field``."""
        if field != "doc_id":
            raise InputError(f"documents of {self._namespace} are looked up by doc_id, not by {field!r}; use field='doc_id'")
        return MixedStore(self._languages, self._draw, options)

    def docs_count(self) -> int | None:
        """How many, by the first language's own count; None where it does not know."""
        count: int | None = ir_datasets.registry[collection_id(self._languages[0])].docs_count()
        return count

    def docs_cls(self) -> type[LanguageDoc]:
        """The documents' type."""
        return LanguageDoc

    def docs_namespace(self) -> str:
        """Which ids these are."""
        return self._namespace

    def docs_lang(self) -> None:
        """None, for there are several."""
        return None


class InStep:
    """The languages' streams, read side by side: each passage in its drawn language. It takes an index or a slice where the streams do."""

    def __init__(self, streams: Mapping[str, Any], draw: Callable[[str], str]) -> None:
        self._streams, self._draw = dict(streams), draw

    def __iter__(self) -> Iterator[LanguageDoc]:
        return self

    def __next__(self) -> LanguageDoc:
        passages = {lang: next(stream, None) for lang, stream in self._streams.items()}
        if all(passage is None for passage in passages.values()):
            raise StopIteration
        return self._drawn(passages)

    def __getitem__(self, key: Any) -> Any:
        parts = {lang: stream[key] for lang, stream in self._streams.items()}
        return InStep(parts, self._draw) if isinstance(key, slice) else self._drawn(parts)

    def _drawn(self, passages: Mapping[str, Any]) -> LanguageDoc:
        (first, passage), *others = passages.items()
        for lang, other in others:
            if (passage and passage.doc_id) != (other and other.doc_id):
                raise InputError(
                    f"{collection_id(first)} and {collection_id(lang)} are out of step: "
                    f"{_place(passage)} in the first stands where {_place(other)} does in the second; "
                    "delete the file that is wrong (and its .pklz4 folder), so that ir_datasets downloads it again"
                )
        lang = self._draw(passage.doc_id)
        return LanguageDoc(passage.doc_id, passages[lang].text, lang)


def _place(passage: Any) -> str:
    return "the end" if passage is None else f"passage {passage.doc_id}"


class MixedStore(Docstore):
    """Documents of an MLIR track by id, each from the docstore of its drawn language, which ir_datasets builds at the first look-up."""

    def __init__(self, languages: Sequence[str], draw: Callable[[str], str], options: Any = DEFAULT_DOCSTORE_OPTIONS) -> None:
        super().__init__(LanguageDoc, options=options)
        self._languages, self._draw = tuple(languages), draw
        self._stores: dict[str, Any] = {}

    def get_many_iter(self, doc_ids: Iterable[str]) -> Iterator[LanguageDoc]:
        """The documents that exist, language by language and, as in ir_datasets, not in the order of ``doc_ids``."""
        drawn: dict[str, list[str]] = {}
        for doc_id in dict.fromkeys(doc_ids):
            drawn.setdefault(self._draw(doc_id), []).append(doc_id)
        for lang, group in drawn.items():
            if lang not in self._stores:
                self._stores[lang] = ir_datasets.registry[collection_id(lang)].docs_store(options=self._options)
            for passage in self._stores[lang].get_many_iter(group):
                yield LanguageDoc(passage.doc_id, passage.text, lang)


def mixed_topics(languages: Sequence[str], seed: int = SEED) -> list[LanguageQuery]:
    """An MLIR track's topics: each in the language drawn for its id, in the first language's order.

    Raises ``InputError`` where a language lacks a topic of the first one, or has another.
    """
    texts = {lang: {topic.query_id: topic.text for topic in ir_datasets.registry[topics_id(lang)].queries_iter()} for lang in languages}
    first = languages[0]
    for lang in languages[1:]:
        odd = sorted(texts[first].keys() ^ texts[lang].keys())
        if odd:
            raise InputError(
                f"{topics_id(first)} and {topics_id(lang)} are out of step: {len(odd)} topics (such as {odd[0]}) are in one of them only; "
                "delete the file that is wrong, so that ir_datasets downloads it again"
            )
    drawn = {topic: draw_language(languages, "query", topic, seed) for topic in texts[first]}
    return [LanguageQuery(topic, texts[lang][topic], lang) for topic, lang in drawn.items()]


def register() -> None:
    """Register ``csrerank/mmarco/{q}-{d}/dev/small``: the 196 ordered pairs of mMARCO's languages, and x-en, en-x and x-x of x6 and x14.

    Nothing is read or downloaded before a dataset is used.
    """
    documentation = Documentation(f"{NAME}.yaml")
    register_once(NAME, documentation("_"))
    documents: dict[str, Any] = {lang: Component(collection_id(lang), "docs", lang) for lang in MMARCO}
    topics: dict[str, Any] = {lang: Component(topics_id(lang), "queries", lang) for lang in MMARCO}
    qrels = {lang: Component(topics_id(lang), "qrels") for lang in MMARCO}
    for track, languages in TRACKS.items():
        documents[track] = MixedDocs(languages, f"{NAME}/{track}")
        topics[track] = MemoryQueries(_topics(languages), f"{NAME}/{track}", None, LanguageQuery)
        # The judgements are one file under several names; mMARCO's own is the small download.
        qrels[track] = Component(topics_id(next(lang for lang in languages if lang != "en")), "qrels")
    candidates = Component(f"{ENGLISH}/{SPLIT}", "scoreddocs")
    pairs = [(query, document, "pair") for query, document in product(MMARCO, repeat=2)]
    tracks = [(*sides, "track") for track in TRACKS for sides in ((track, "en"), ("en", track), (track, track))]
    for query, document, kind in pairs + tracks:
        parts = (documents[document], topics[query], qrels[query], candidates, documentation(kind))
        register_once(f"{NAME}/{query}-{document}/{SPLIT}", *parts)


def _topics(languages: Sequence[str]) -> Callable[[], list[LanguageQuery]]:
    return lambda: mixed_topics(languages)
