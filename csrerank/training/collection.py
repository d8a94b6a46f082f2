"""What a training dataset holds: topics, documents and judgements of the plain collection, and how they are switched, anew in each epoch."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from csrerank.codeswitch import Policy, switch
from csrerank.codeswitch.tables import Lexicons
from csrerank.collections.digests import digest, documents_digest
from csrerank.errors import InputError
from csrerank.training.translations import SIDES, Translations, translated

_AT_ONCE = 10_000  # documents looked up


class Collection:
    """A training dataset of ir_datasets: a code-switched id of ours, or any id with topics, documents and judgements.

    Texts are switched as the id ``<dataset>/seed-<seed>/epoch-<epoch>`` has them, without that id having to exist.

    :param lexicons: where words are looked up.
    :param translations: texts that stand in the place of those they translate, unswitched.
    :raises InputError: for an unknown dataset, one without topics, documents or judgements, an id that names a single epoch, and translations of other texts.
    """

    def __init__(self, dataset_id: str, lexicons: Lexicons, translations: Translations | None = None) -> None:
        from csrerank.collections.catalogue import load
        from csrerank.collections.switched import recipe
        from csrerank.collections.texts import default_text

        self.id, self.lexicons, self._translations = dataset_id, lexicons, translations or {}
        made = recipe(dataset_id)
        if made and re.search(r"/epoch-[0-9]+\Z", dataset_id):
            raise InputError(f"{dataset_id}: names one epoch, and training switches anew in each; leave /epoch-{made.epoch} out")
        self.is_switched = made is not None  # else policy and seed change nothing
        self.base, self.policy, self.seed = (made.base, made.policy, made.seed) if made else (dataset_id, Policy.load("zero-shot"), 0)
        dataset = load(self.base)
        missing = [what for what in ("docs", "queries", "qrels") if not getattr(dataset, f"has_{what}")()]
        if missing:
            raise InputError(f"{dataset_id} has no {' and no '.join(missing)} to train on; give a dataset with all three")
        self._dataset, self._store = dataset, dataset.docs_store()
        self.topics = {query.query_id: default_text(query, self.base) for query in dataset.queries_iter()}
        self.relevant = _relevant(dataset, self.topics)
        self.translated = self._coverage()

    def _coverage(self) -> dict[str, int]:
        """By side, how many of the topics with a relevant document, and how many documents, have a translation. Raises ``InputError`` for an id of neither."""
        ids = {side: [name for of, name in self._translations if of == side] for side in SIDES}
        unknown = {"query": [name for name in ids["query"] if name not in self.topics], "passage": []}
        for start in range(0, len(ids["passage"]), _AT_ONCE):
            asked = ids["passage"][start : start + _AT_ONCE]
            found = self._store.get_many(asked)
            unknown["passage"] += [name for name in asked if name not in found]
        for side, names in unknown.items():
            if names:
                raise InputError(
                    f"--translations: {len(names)} of its {len(ids[side])} {side} ids are not in {self.base} ({names[0]!r}); give the file that belongs to --dataset"
                )
        return {"query": sum(name in self.relevant for name in ids["query"]), "passage": len(ids["passage"])} if self._translations else {}

    def check_judged(self, topics: Iterable[str], documents: Iterable[str]) -> None:
        """Raise ``InputError`` where a document that is relevant to one of ``topics`` is not among ``documents``, the collection's."""
        judged = {document: topic for topic in topics for document in sorted(self.relevant[topic])}
        for document in documents:
            judged.pop(document, None)
        if judged:
            document, topic = next(iter(judged.items()))
            raise InputError(f"{self.base}: document {document!r}, relevant to topic {topic!r}, is not in the collection; mend the judgements or the documents")

    @property
    def languages(self) -> set[str]:
        """ISO 639-1 codes of the plain texts, as far as the dataset states them (English, if it states none), and of what they are switched into."""
        stated = {lang for lang in (self._dataset.queries_lang(), self._dataset.docs_lang()) if lang}
        return (stated or {"en"}) | {lang for _, _, lang in self.policy.lexicons()}

    def documents_count(self) -> int:
        """How many documents."""
        return int(self._dataset.docs_count() or len(self.all_documents()))

    def texts(self, documents: Iterable[str]) -> dict[str, str]:
        """The plain texts of documents. Raises ``InputError`` for one that the collection lacks."""
        from csrerank.collections.texts import default_text

        wanted = list(dict.fromkeys(documents))
        found = self._store.get_many(wanted)
        lacking = next((document for document in wanted if document not in found), None)
        if lacking is not None:
            raise InputError(f"{self.base}: document {lacking!r} is not in the collection; check that runs and judgements belong to it")
        return {document: default_text(found[document], self.base) for document in wanted}

    def all_documents(self) -> list[str]:
        """The ids of all documents, in the collection's order."""
        return [document.doc_id for document in self._dataset.docs_iter()]

    def articles(self) -> dict[str, str]:
        """Document -> article. Raises ``InputError`` where documents have no title."""
        if "title" not in self._dataset.docs_cls()._fields:
            raise InputError(f"{self.base}: its documents name no article; take other --negatives than article")
        return {document.doc_id: document.title for document in self._dataset.docs_iter()}

    def docpairs(self, most: int) -> dict[str, list[str]]:
        """Topic -> the first ``most`` worse documents of its training pairs."""
        if not self._dataset.has_docpairs():
            raise InputError(f"{self.base} has no docpairs; take other --negatives")
        found: dict[str, list[str]] = {}
        for pair in self._dataset.docpairs_iter():
            others = found.setdefault(pair.query_id, [])
            if len(others) < most and pair.doc_id_b not in others:
                others.append(pair.doc_id_b)
        return found

    def switched(self, text: str, identifier: str, side: str, epoch: int) -> str:
        """A text as the epoch has it."""
        found = translated(self._translations, side, identifier, self.seed, epoch)
        if found is not None:
            return found
        return switch(text, identifier, self.policy, self.lexicons, self.seed, epoch, side)[0]

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of topics (id and text), judgements (topic and relevant documents) and documents (id and text), in the collection's order."""
        topics = digest(self.topics.items())
        judgements = digest((topic, *sorted(relevant)) for topic, relevant in self.relevant.items())
        return {"topics": topics, "judgements": judgements, "documents": documents_digest(self.base)}

    def run(self, method: str, depth: int, cache: Path, encoder: Path | None, quiet: bool) -> Path:
        """The first-stage run of the plain collection by ``method``, made once and kept in ``cache``."""
        from csrerank.metadata import versions
        from csrerank.models.checkpoint import directory_hash
        from csrerank.retrieval.apart import first_stage_run

        known = versions()
        made_from = [
            self.base,
            method,
            str(depth),
            documents_digest(self.base),
            digest(self.topics.items()),
            str(known.get("pyserini")),
            str(known.get("csrerank")),
        ]
        directory = encoder_directory(encoder, cache) if method == "dense" else None
        if directory:
            made_from.append(directory_hash(directory))
        path = cache / "training-runs" / f"{hashlib.sha256(chr(31).join(made_from).encode()).hexdigest()[:24]}.trec.gz"
        return first_stage_run(self.base, method, depth, path, encoder=directory, quiet=quiet)


def encoder_directory(encoder: Path | None, cache: Path) -> Path:
    """The bi-encoder given, or the one that scripts/build_encoder made. Raises ``InputError`` where there is none."""
    directory = encoder or cache / "encoder"
    if not (directory / "config.json").exists():
        raise InputError(f"{directory}: no bi-encoder there; make the default one with scripts/build_encoder, or give another directory with --encoder")
    return directory


def _relevant(dataset: Any, topics: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Topic -> its relevant documents, for the topics that have any, in their order."""
    found: dict[str, set[str]] = {}
    for row in dataset.qrels_iter():
        if row.relevance > 0 and row.query_id in topics:
            found.setdefault(row.query_id, set()).add(row.doc_id)
    return {topic: frozenset(found[topic]) for topic in topics if topic in found}


def read_candidates(path: str | Path, topics: Mapping[str, str], depth: int) -> dict[str, Sequence[str]]:
    """Topic -> the first ``depth`` documents of a run. Raises ``InputError`` where the run has no topic of the collection."""
    from csrerank.trec import read_run

    found: dict[str, Sequence[str]] = {ranking.topic: ranking.docs[:depth] for ranking in read_run(path) if ranking.topic in topics}
    if not found:
        raise InputError(f"{path}: none of its topics is in the collection; give the run that belongs to --dataset")
    return found
