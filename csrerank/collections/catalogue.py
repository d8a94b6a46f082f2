"""How csrerank's collections become ir_datasets datasets: documentation, downloads, handlers over small parallel collections held in memory, and
registration.
"""

import json
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import ir_datasets
from ir_datasets.datasets.base import Dataset, YamlDocumentation
from ir_datasets.formats import BaseDocPairs, BaseDocs, BaseQrels, BaseQueries, GenericDoc, GenericDocPair, GenericQrel, GenericQuery
from ir_datasets.indices import Docstore
from ir_datasets.util.download import _DownloadConfig

from csrerank.errors import InputError

PREFIX = "csrerank"
BINARY_GRADES = {1: "relevant", 0: "not relevant"}


class Documentation(YamlDocumentation):
    """``YamlDocumentation`` reads only ir_datasets' own package; this one reads ours."""

    _contents: Any

    def get_key(self, key: str) -> Any:
        """The entry ``key`` of the YAML file, a mapping of strings, or None."""
        if self._contents is None:
            yaml = ir_datasets.lazy_libs.yaml()
            self._contents = yaml.load(pkgutil.get_data("csrerank.collections", self._file), Loader=yaml.BaseLoader)
        return self._contents.get(key)


def downloads(key: str) -> Any:
    """The part ``key`` of downloads.json as an ir_datasets download configuration: a file is looked for in ``$IR_DATASETS_HOME/downloads/<md5>`` first, then
    fetched and its MD5 checked.
    """
    contents = json.loads(pkgutil.get_data("csrerank.collections", "downloads.json") or b"{}")
    return _DownloadConfig(contents=contents[key], base_path=ir_datasets.util.home_path() / PREFIX)


def download_md5(key: str) -> dict[str, str]:
    """MD5 by file name of the part ``key`` of downloads.json, for fingerprints."""
    contents = json.loads(pkgutil.get_data("csrerank.collections", "downloads.json") or b"{}")
    return {name: entry["expected_md5"] for name, entry in contents[key].items()}


class MemoryStore(Docstore):
    """Documents (or topics) by id out of a dictionary."""

    def __init__(self, documents: Mapping[str, Any], doc_cls: Any, id_field: str = "doc_id") -> None:
        super().__init__(doc_cls, id_field)
        self._documents = documents

    def get_many_iter(self, doc_ids: Iterable[str]) -> Iterator[Any]:
        """The documents that exist, in the order of ``doc_ids``."""
        return (self._documents[doc_id] for doc_id in doc_ids if doc_id in self._documents)


class MemoryDocs(BaseDocs):
    """A small collection, loaded at first use by ``load()``, which gives the documents in order."""

    def __init__(self, load: Callable[[], Iterable[Any]], namespace: str, lang: str | None, doc_cls: Any = GenericDoc) -> None:
        self._load, self._namespace, self._lang, self._cls = load, namespace, lang, doc_cls

    @cached_property
    def _documents(self) -> dict[str, Any]:
        return {document.doc_id: document for document in self._load()}

    def docs_iter(self) -> Any:
        """Documents in order, sliceable as ir_datasets' own are."""
        return _Sliceable(list(self._documents.values()))

    def docs_store(self, field: str = "doc_id", options: Any = None) -> MemoryStore:
        """Documents by id."""
        return MemoryStore(self._documents, self._cls)

    def docs_count(self) -> int:
        """How many."""
        return len(self._documents)

    def docs_cls(self) -> Any:
        """The documents' type."""
        return self._cls

    def docs_namespace(self) -> str:
        """Which ids these are."""
        return self._namespace

    def docs_lang(self) -> str | None:
        """ISO 639-1, or None for several languages."""
        return self._lang


class _Sliceable:
    """An iterator that also takes an index or a slice."""

    def __init__(self, items: list[Any]) -> None:
        self._items, self._rest = items, iter(items)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._rest)

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, slice):
            return self._items[key]
        return _Sliceable(self._items[ir_datasets.util.apply_sub_slice(slice(0, len(self._items)), key)])  # fractions, as ir_datasets' own take them


class MemoryQueries(BaseQueries):
    """Topics, loaded at first use by ``load()``."""

    def __init__(self, load: Callable[[], Iterable[Any]], namespace: str, lang: str | None, query_cls: Any = GenericQuery) -> None:
        self._load, self._namespace, self._lang, self._cls = load, namespace, lang, query_cls

    @cached_property
    def _queries(self) -> list[Any]:
        return list(self._load())

    def queries_iter(self) -> Iterator[Any]:
        """Topics in order."""
        return iter(self._queries)

    def queries_count(self) -> int:
        """How many."""
        return len(self._queries)

    def queries_cls(self) -> Any:
        """The topics' type."""
        return self._cls

    def queries_namespace(self) -> str:
        """Which ids these are."""
        return self._namespace

    def queries_lang(self) -> str | None:
        """ISO 639-1, or None for several languages."""
        return self._lang


class MemoryQrels(BaseQrels):
    """Judgements ``(topic, document, grade)``, loaded at first use by ``load()``."""

    def __init__(self, load: Callable[[], Iterable[tuple[str, str, int]]], grades: Mapping[int, str] = BINARY_GRADES) -> None:
        self._load, self._grades = load, dict(grades)

    @cached_property
    def _qrels(self) -> list[GenericQrel]:
        return [GenericQrel(*judgement) for judgement in self._load()]

    def qrels_iter(self) -> Iterator[GenericQrel]:
        """Judgements in order."""
        return iter(self._qrels)

    def qrels_count(self) -> int:
        """How many."""
        return len(self._qrels)

    def qrels_defs(self) -> dict[int, str]:
        """What each grade means."""
        return self._grades


class MemoryDocPairs(BaseDocPairs):
    """Training pairs ``(topic, relevant document, other document)``, loaded at first use by ``load()``."""

    def __init__(self, load: Callable[[], Iterable[tuple[str, str, str]]]) -> None:
        self._load = load

    @cached_property
    def _pairs(self) -> list[GenericDocPair]:
        return [GenericDocPair(*pair) for pair in self._load()]

    def docpairs_iter(self) -> Iterator[GenericDocPair]:
        """Pairs in order."""
        return iter(self._pairs)

    def docpairs_count(self) -> int:
        """How many."""
        return len(self._pairs)

    def docpairs_cls(self) -> Any:
        """The pairs' type."""
        return GenericDocPair


class LanguageQuery(NamedTuple):
    """A topic of a multilingual track, with the language that was drawn for it."""

    query_id: str
    text: str
    lang: str

    def default_text(self) -> str:
        """The text."""
        return self.text


class LanguageDoc(NamedTuple):
    """A document of a multilingual track, with the language that was drawn for it."""

    doc_id: str
    text: str
    lang: str

    def default_text(self) -> str:
        """The text."""
        return self.text


class Component:
    """The ``docs``, ``queries``, ``qrels``, ``docpairs`` or ``scoreddocs`` of another dataset, looked up whenever they are asked for something.

    :param dataset_id: whose.
    :param kind: which kind; nothing else of that dataset shows.
    :param lang: the ISO code that ``<kind>_lang()`` gives in the place of the other dataset's, for Dutch is ``dt`` there.

    ir_datasets' handler itself will not do: msmarco-passage migrates the files in its folder as soon as it is asked for its documents'
    handler, and registering touches no file.
    """

    def __init__(self, dataset_id: str, kind: str, lang: str | None = None) -> None:
        self._dataset_id, self._kind, self._lang = dataset_id, kind, lang

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not name.startswith(f"{self._kind}_"):
            raise AttributeError(name)
        if name == f"{self._kind}_handler":
            return self._handler
        if name == f"{self._kind}_lang":
            return self._language
        return getattr(ir_datasets.registry[self._dataset_id], name)

    def _handler(self) -> "Component":
        return self

    def _language(self) -> str | None:
        return self._lang


def register_once(name: str, *handlers: Any) -> None:
    """Register ``csrerank/<name>``; an id that is registered already stays as it is (ir_datasets raises on a second registration)."""
    full = f"{PREFIX}/{name}" if name else PREFIX
    if full not in ir_datasets.registry._registered:
        ir_datasets.registry.register(full, Dataset(*handlers))


def load(dataset_id: str) -> Any:
    """The ir_datasets dataset of this id, csrerank's own included. Raises ``InputError`` for an unknown one."""
    import csrerank.collections  # noqa: F401  registers

    try:
        return ir_datasets.load(dataset_id)
    except KeyError:
        raise InputError(f"unknown dataset {dataset_id!r}; `csrerank datasets list` prints the ids, and https://ir-datasets.com the others") from None


def command(arguments: list[str]) -> None:
    """ir_datasets' command line with csrerank's ids, and ``show ID``: what a dataset is and holds."""
    import csrerank.collections  # noqa: F401  registers

    if arguments[:1] == ["show"] and len(arguments) == 2:
        print(described(arguments[1]))
        return
    if not arguments or arguments[0] in ("-h", "--help", "show"):
        raise InputError("give one of: list, show ID, export ID {docs,queries,qrels,scoreddocs}, lookup ID DOC_ID..., doc_fifos, build_c4_checkpoints, clean")
    from ir_datasets.commands import COMMANDS

    if arguments[0] not in COMMANDS:
        raise InputError(f"unknown datasets command {arguments[0]!r}; known are show {' '.join(COMMANDS)}")
    ids = [argument for argument in arguments[1:] if argument.startswith(f"{PREFIX}/")]
    for dataset_id in ids:
        load(dataset_id)
    ir_datasets.main(arguments)


def described(dataset_id: str) -> str:
    """A dataset's documentation and counts, as text."""
    import re

    dataset = load(dataset_id)
    about = dataset.documentation() if hasattr(dataset, "documentation") else {}
    prose = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", about.get("desc", ""))).strip()
    lines = [dataset_id, about.get("pretty_name", ""), prose]
    if dataset.has_docs():
        lines.append(f"documents: {dataset.docs_count()} ({dataset.docs_lang() or 'several languages'}); fields {', '.join(dataset.docs_cls()._fields)}")
    if dataset.has_queries():
        lines.append(f"topics: {dataset.queries_count()} ({dataset.queries_lang() or 'several languages'})")
    if dataset.has_qrels():
        lines.append(f"judgements: {dataset.qrels_count()}; grades {dataset.qrels_defs()}")
    return "\n".join(line for line in lines if line)
