"""Code-switched collections: any collection's documents and topics, switched on the fly by a policy and never stored; the training ids, MUSE-switched validation,
and Translate-Test tracks.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import ir_datasets
from ir_datasets.formats import BaseDocs, BaseQueries
from ir_datasets.indices import DEFAULT_DOCSTORE_OPTIONS, Docstore

from csrerank.codeswitch import Lexicons, Policy, Switch, switch
from csrerank.collections import demo, mmarco, xquad_r
from csrerank.collections.catalogue import PREFIX, Component, Documentation, download_md5, register_once
from csrerank.collections.sampling import SEED
from csrerank.errors import InputError
from csrerank.languages import LANGUAGES

BASES = tuple(f"en-qa/{part}{split}" for part in ("", "paragraphs/", "shifts/", "shifts/paragraphs/") for split in ("train", "validation")) + ("msmarco/train",)
# Litschko et al. (2023): their seen CLIR pairs; BL-CS trains one model for each.
BL_CS = ("en-de", "en-it", "en-ar", "en-ru", "de-it", "de-nl", "de-ru", "ar-it", "ar-ru")
SYSTEMS = ("zero-shot", *(f"bl-cs/{pair}" for pair in BL_CS), "ml-cs", "wiki-cs")
TRAINED = ("en-qa/train", "en-qa/paragraphs/train", "msmarco/train")  # their systems are registered by name; those of the other bases are made on demand
_ID = re.compile(
    rf"^{PREFIX}/(?P<base>{'|'.join(BASES)})/(?P<policy>policy:.+?|[a-z-]+(?:/[a-z]{{2}}-[a-z]{{2}})?)(?:/seed-(?P<seed>[0-9]{{1,18}}))?(?:/epoch-(?P<epoch>[0-9]{{1,18}}))?\Z"
)
_FIELDS = ("text", "context")  # what is switched of a record, where it has them


class Recipe(NamedTuple):
    """What a code-switched dataset is made of: the id of the plain one, and what keys its switches."""

    base: str
    policy: Policy
    seed: int
    epoch: int


def policy_named(name: str) -> Policy:
    """A built-in policy (``ml-cs``), one for a language pair (``bl-cs/en-de``: query and passage language), or a YAML file. Raises ``InputError``."""
    match = re.fullmatch(r"(bl-cs|muse|translate-test)/([a-z]{2})-([a-z]{2})", name)
    return Policy.load(match[1], {"query": match[2], "passage": match[3]}) if match else Policy.load(name)


def recipe(dataset_id: str) -> Recipe | None:
    """What a code-switched training or validation id is made of; None for any other id.

    ``csrerank/<base>/<system>[/seed-<n>][/epoch-<n>]``, where the system is a built-in policy (with ``/de-it`` for a pair) or ``policy:<file>``. Without them the
    seed is 2023 and the epoch 0. Raises ``InputError`` for a policy that cannot be read.
    """
    match = _ID.fullmatch(dataset_id)
    if match is None:
        return None
    policy = policy_named(match["policy"].removeprefix("policy:"))
    return Recipe(f"{PREFIX}/{match['base']}", policy, int(match["seed"] or SEED), int(match["epoch"] or 0))


@cache
def lexicons() -> Lexicons:
    """This process's lexicons."""
    return Lexicons()


def switched_record(record: Any, side: str, policy: Policy, lexicons: Lexicons, seed: int, epoch: int) -> tuple[Any, dict[str, list[Switch]]]:
    """A document or topic with its text switched, and the records by field. ``text`` is keyed by the record's id, ``context`` by ``<id>/context``.

    Raises ``InputError`` for a record without a text.
    """
    fields = [field for field in _FIELDS if field in record._fields]
    if "text" not in fields:
        raise InputError(f"{type(record).__name__} {record[0]}: no field 'text' to switch; its fields are {', '.join(record._fields)}")
    changed, records = {}, {}
    for field in fields:
        identifier = record[0] if field == "text" else f"{record[0]}/{field}"
        changed[field], records[field] = switch(getattr(record, field), identifier, policy, lexicons, seed, epoch, side)
    return record._replace(**changed), records


Settings = Callable[[Any], tuple[Policy, int, int]]  # a record's policy, seed and epoch


class Switcher:
    """Switches the records of one side, each by its settings."""

    def __init__(self, side: str, settings: Settings) -> None:
        self._side, self._settings = side, settings

    def __call__(self, record: Any) -> Any:
        """The record, switched."""
        policy, seed, epoch = self._settings(record)
        return switched_record(record, self._side, policy, lexicons(), seed, epoch)[0]


class SwitchedDocs(BaseDocs):
    """Another dataset's documents, switched as they are read. ``settings()`` is called whenever reading begins, so that a policy file counts as it is then."""

    def __init__(self, base: str, settings: Callable[[], Settings], namespace: str, lang: str | None) -> None:
        self._base, self._settings, self._namespace, self._lang = base, settings, namespace, lang

    def _switcher(self) -> Switcher:
        return Switcher("passage", self._settings())

    def docs_iter(self) -> "SwitchedIter":
        """Documents in the base's order; sliceable where the base is."""
        return SwitchedIter(ir_datasets.registry[self._base].docs_iter(), self._switcher())

    def docs_store(self, field: str = "doc_id", options: Any = DEFAULT_DOCSTORE_OPTIONS) -> "SwitchedStore":
        """Documents by id, out of the base's store."""
        return SwitchedStore(ir_datasets.registry[self._base].docs_store(field, options=options), self._switcher())

    def docs_count(self) -> int | None:
        """How many."""
        return ir_datasets.registry[self._base].docs_count()

    def docs_cls(self) -> Any:
        """The documents' type, the base's."""
        return ir_datasets.registry[self._base].docs_cls()

    def docs_namespace(self) -> str:
        """Which ids these are."""
        return self._namespace

    def docs_lang(self) -> str | None:
        """ISO 639-1, or None for several languages."""
        return self._lang


class SwitchedIter:
    """A stream of records, switched one by one; it takes an index or a slice where the base's does."""

    def __init__(self, records: Any, switcher: Switcher) -> None:
        self._records, self._switcher = records, switcher

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._switcher(next(self._records))

    def __getitem__(self, key: Any) -> Any:
        found = self._records[key]
        return SwitchedIter(found, self._switcher) if isinstance(key, slice) else self._switcher(found)


class SwitchedStore(Docstore):
    """Records by id out of another store, switched."""

    def __init__(self, store: Any, switcher: Switcher) -> None:
        super().__init__(store._doc_cls, store._id_field)
        self._store, self._switcher = store, switcher

    def get_many_iter(self, doc_ids: Iterable[str]) -> Iterator[Any]:
        """The records that exist, in the base's order."""
        return map(self._switcher, self._store.get_many_iter(doc_ids))


class SwitchedQueries(BaseQueries):
    """Another dataset's topics, switched as they are read; ``settings`` as in ``SwitchedDocs``."""

    def __init__(self, base: str, settings: Callable[[], Settings], namespace: str, lang: str | None) -> None:
        self._base, self._settings, self._namespace, self._lang = base, settings, namespace, lang

    def queries_iter(self) -> Iterator[Any]:
        """Topics in order."""
        return map(Switcher("query", self._settings()), ir_datasets.registry[self._base].queries_iter())

    def queries_count(self) -> int | None:
        """How many."""
        return ir_datasets.registry[self._base].queries_count()

    def queries_cls(self) -> Any:
        """The topics' type, the base's."""
        return ir_datasets.registry[self._base].queries_cls()

    def queries_namespace(self) -> str:
        """Which ids these are."""
        return self._namespace

    def queries_lang(self) -> str | None:
        """ISO 639-1, or None for several languages."""
        return self._lang


def _handlers(dataset_id: str, query: str | None = None, document: str | None = None) -> list[Any]:
    """The handlers of a code-switched id, with the languages of its sides, where they are one. The policy is read when the first record is."""
    match = _ID.fullmatch(dataset_id)
    assert match is not None, dataset_id
    base, name = f"{PREFIX}/{match['base']}", dataset_id.removeprefix(f"{PREFIX}/")

    def settings() -> Settings:
        _, *made = recipe(dataset_id)  # type: ignore[misc]
        return lambda record: tuple(made)

    docs = SwitchedDocs(base, settings, name, document)
    queries = SwitchedQueries(base, settings, name, query)
    return [docs, queries, Component(base, "qrels"), Component(base, "docpairs"), Documentation("switched.yaml")(_kind(match["policy"]))]


def _kind(policy: str) -> str:
    """The policy's entry in switched.yaml."""
    name = policy.partition("/")[0]
    return "policy" if name.startswith("policy:") else name


def _on_demand(dataset_id: str, groups: tuple[str, ...]) -> Any:
    recipe(dataset_id)  # raises InputError for a policy that cannot be read
    return ir_datasets.Dataset(*_handlers(dataset_id))


def _translated(name: str, query: str | None, document: str | None) -> None:
    """Register ``<name>/translate-test``: the sides in other languages than English, term by term in English; None stands for a track's mixed side."""
    base = f"{PREFIX}/{name}"
    docs: Any = Component(base, "docs", "en")
    queries: Any = Component(base, "queries", "en")
    if document != "en":
        docs = SwitchedDocs(base, _to_english(document), f"{name}/translate-test", "en")
    if query != "en":
        queries = SwitchedQueries(base, _to_english(query), f"{name}/translate-test", "en")
    register_once(f"{name}/translate-test", docs, queries, Component(base, "qrels"), Documentation("switched.yaml")("translate-test"))


@cache
def _english_policy(lang: str) -> Policy:
    return Policy.load("translate-test", {"query": lang, "passage": lang})


def _to_english(only: str | None) -> Callable[[], Settings]:
    return lambda: lambda record: (_english_policy(only or record.lang), SEED, 0)


def _sides(languages: Sequence[str], tracks: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield from product(languages, repeat=2)
    for track in tracks:
        yield from ((track, "en"), ("en", track), (track, track))


def register() -> None:
    """Register the systems of ``csrerank/en-qa/train``, ``.../paragraphs/train`` and ``csrerank/msmarco/train`` by name, the others of every base on demand; the
    validation part switched by MUSE; and ``.../translate-test`` for every pair and track of XQuAD-R, mMARCO and the demo collection whose languages have dictionaries.
    """
    for base in TRAINED:
        for system in SYSTEMS:
            lang = "en" if system == "zero-shot" else None
            register_once(f"{base}/{system}", *_handlers(f"{PREFIX}/{base}/{system}", lang, lang))
    if not any(pattern is _ID for pattern, _ in ir_datasets.registry._patterns):
        ir_datasets.registry.register_pattern(_ID, _on_demand)
    for lang in (name.removeprefix("en-") for name in download_md5("muse") if name.startswith("en-")):
        for query, document in (("en", lang), (lang, "en"), (lang, lang)):
            name = f"en-qa/validation/muse/{query}-{document}"
            register_once(name, *_handlers(f"{PREFIX}/{name}", query, document))
    translated = {"en"} | {name.removeprefix("en-") for source in ("wiktionary", "freedict") for name in download_md5(source)}
    for name, languages, tracks, suffixes in (
        (xquad_r.NAME, xquad_r.XQUAD, xquad_r.TRACKS, ("", "/paragraphs")),
        (demo.NAME, demo.DEMO, demo.TRACKS, ("",)),
        (mmarco.NAME, mmarco.MMARCO, mmarco.TRACKS, (f"/{mmarco.SPLIT}",)),
    ):
        groups = {**{lang: [lang] for lang in languages}, **tracks}
        for (query, document), suffix in product(_sides(languages, tracks), suffixes):
            if (query, document) != ("en", "en") and translated.issuperset([*groups[query], *groups[document]]):
                _translated(f"{name}/{query}-{document}{suffix}", *(side if side in LANGUAGES else None for side in (query, document)))
