"""First-stage runs over an ir_datasets id: ``bm25``, ``dense`` and, on our parallel collections, ``oracle``; each written whole, with its metadata sidecar
and its pool recall.
"""

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from csrerank.errors import InputError
from csrerank.files import check_writable, is_stream
from csrerank.metadata import describe, sidecar, versions, write_sidecar
from csrerank.trec import TopicRun, check_tag, write_run

METHODS = ("bm25", "dense", "oracle")
# Collections of ours that are small enough to be read for each run. Other documents come from files that ir_datasets knows by their hashes.
_READ = ("csrerank/xquad-r/", "csrerank/en-qa/", "csrerank/demo/")


class Retrieved(NamedTuple):
    """What was written: topics, topics for which nothing was found, and the pool recall (None without qrels)."""

    topics: int
    empty: int
    pool_recall: float | None

    def summary(self, output: str | Path) -> str:
        """One line for a person."""
        parts = [f"{output}: {self.topics} topics"]
        parts += [f"{self.empty} of them without any match"] if self.empty else []
        parts += [f"pool recall {self.pool_recall:.4f}"] if self.pool_recall is not None else []
        return "; ".join(parts)


def retrieve(
    dataset_id: str, output: str | Path, method: str = "bm25", *, k: int = 100, tag: str | None = None, analyzer: str | None = None, encoder: str | None = None, cache: Path, quiet: bool = False,
) -> Retrieved:  # fmt: skip
    """Write the first-stage run of ``dataset_id`` by ``method`` to ``output``: the ``k`` best documents of each topic.

    ``analyzer`` is for BM25 (the documents' language decides otherwise), ``encoder`` (a bi-encoder's directory; ``cache``/encoder, which
    scripts/build_encoder makes, if none is given) for the dense run. Raises ``InputError`` for an option that the method does not take.
    """
    started = datetime.now(UTC)
    if method not in METHODS:
        raise InputError(f"unknown first stage {method!r}; known are {' '.join(METHODS)}")
    if analyzer and method == "dense":
        raise InputError("--analyzer is for BM25; leave it out with --first-stage dense")
    if encoder and method != "dense":
        raise InputError(f"--encoder is for --first-stage dense; leave it out with {method}")
    tag = tag or {"bm25": "bm25", "dense": "dense", "oracle": "bm25oracle"}[method]
    check_tag(tag)
    if k < 1:
        raise InputError(f"--k {k}: give 1 or more")
    check_writable(output)
    if not is_stream(output):
        check_writable(sidecar(output))
    from csrerank.collections.catalogue import load

    dataset = load(dataset_id)
    if not dataset.has_docs() or not dataset.has_queries():
        raise InputError(f"{dataset_id} has no documents and topics to retrieve with; give a dataset that has both")
    if method == "bm25":
        rankings, how = _bm25(dataset, dataset_id, k, analyzer, cache, quiet)
    elif method == "dense":
        rankings, how = _dense(dataset, k, Path(encoder) if encoder else cache / "encoder", cache, quiet)
    else:
        rankings, how = _oracle(dataset_id, dataset, k, analyzer, cache, quiet)
    counted = _Counted(rankings, _qrels(dataset))
    write_run(output, counted, tag)
    result = counted.result()
    if not is_stream(output):
        data = {"test collection": {"name": dataset_id, "ir_datasets": dataset_id}}
        write_sidecar(output, describe({"retrieval": [{"name": method, "k": k, **how}], "counts": result._asdict()}, data, started, tag))
    return result


class _Counted:
    """Passes rankings through, without empty ones, and measures them on the way."""

    def __init__(self, rankings: Iterable[TopicRun], qrels: dict[str, set[str]]) -> None:
        self._rankings, self._qrels = rankings, qrels
        self._topics = self._empty = 0
        self._share = 0.0

    def __iter__(self) -> Iterator[TopicRun]:
        for ranking in self._rankings:
            self._topics += 1
            self._empty += not ranking.docs
            relevant = self._qrels.get(ranking.topic)
            if relevant:
                self._share += len(relevant & set(ranking.docs)) / len(relevant)
            if ranking.docs:
                yield ranking

    def result(self) -> Retrieved:
        return Retrieved(self._topics, self._empty, round(self._share / len(self._qrels), 4) if self._qrels else None)


def _qrels(dataset: Any) -> dict[str, set[str]]:
    relevant: dict[str, set[str]] = {}
    if dataset.has_qrels():
        for row in dataset.qrels_iter():
            if row.relevance > 0:
                relevant.setdefault(row.query_id, set()).add(row.doc_id)
    return relevant


def _topics(dataset: Any, dataset_id: str) -> list[tuple[str, str]]:
    from csrerank.collections.texts import default_text

    return [(query.query_id, default_text(query, dataset_id)) for query in dataset.queries_iter()]


def _bm25(dataset: Any, dataset_id: str, k: int, analyzer: str | None, cache: Path, quiet: bool) -> tuple[Iterable[TopicRun], dict[str, Any]]:
    from csrerank.retrieval import bm25

    lang = dataset.docs_lang()
    if not (lang or analyzer or dataset_id.startswith("csrerank/")):
        raise InputError(f"{dataset_id} does not say which language its documents are in; give --analyzer (a language code, whitespace or standard)")
    chosen = analyzer or bm25.analyzer_for([lang] if lang else ["several", "languages"])
    index = bm25_index(dataset, dataset_id, chosen, cache, quiet)
    found = bm25.BM25(index).search(_progress(_topics(dataset, dataset_id), "searching", quiet), k)
    return found, {"method": "BM25", "k1": bm25.K1, "b": bm25.B, "analyzer": chosen}


def bm25_index(dataset: Any, dataset_id: str, analyzer: str, cache: Path, quiet: bool) -> Path:
    """The Lucene index of a dataset's documents with this analyzer: built once and kept in ``cache``, named by what it was made from."""
    from csrerank.collections.digests import documents_digest
    from csrerank.collections.texts import default_text
    from csrerank.retrieval import bm25

    known = versions()
    # Pairs with the same documents share an index: ir_datasets names a document collection by its namespace. The count guards one that grew and is not read.
    key = [
        str(dataset.docs_namespace() or dataset_id),
        str(dataset.docs_lang()),
        analyzer,
        str(dataset.docs_count()),
        str(known.get("pyserini")),
        str(known.get("csrerank")),
        *([documents_digest(dataset_id)] if dataset_id.startswith(_READ) else []),
    ]
    name = re.sub(r"[^a-z0-9]+", "-", key[0].lower()).strip("-")
    target = cache / "indexes" / f"{name}-{analyzer}-{hashlib.sha256(chr(31).join(key).encode()).hexdigest()[:12]}"
    if not target.exists():
        from tqdm import tqdm

        documents = ((document.doc_id, default_text(document, dataset_id)) for document in dataset.docs_iter())
        with tqdm(total=dataset.docs_count(), unit="doc", desc="indexing", disable=quiet or not sys.stderr.isatty()) as bar:
            bm25.build_index(documents, target, analyzer, bar)
    return target


def _dense(dataset: Any, k: int, encoder: Path, cache: Path, quiet: bool) -> tuple[Iterable[TopicRun], dict[str, Any]]:
    from csrerank.collections.texts import default_text
    from csrerank.models.checkpoint import directory_hash
    from csrerank.models.embedding import Embedder
    from csrerank.retrieval import dense

    embedder = Embedder.load(encoder)
    key = directory_hash(encoder)
    documents = [(document.doc_id, default_text(document, "documents")) for document in dataset.docs_iter()]
    topics = _topics(dataset, "topics")
    vectors = dense.embed_cached(embedder, [text for _, text in documents], "passage", cache, key, quiet)
    queries = dense.embed_cached(embedder, [text for _, text in topics], "query", cache, key, quiet)
    return dense.search(vectors, [doc for doc, _ in documents], queries, [topic for topic, _ in topics], k), {
        "method": "dense, exact inner product",
        "encoder sha256": key,
    }


def carried_from(dataset_id: str) -> str:
    """The English dataset whose BM25 run is carried over to a pair of a parallel collection. Raises ``InputError`` for other datasets."""
    match = re.fullmatch(r"csrerank/(xquad-r|demo)/[a-z0-9]+-[a-z0-9]+(/paragraphs)?", dataset_id)
    if match is None:
        raise InputError(
            f"{dataset_id}: --first-stage oracle needs a parallel collection (csrerank/xquad-r, csrerank/demo); for csrerank/mmarco use its scoreddocs"
        )
    return f"csrerank/{match[1]}/en-en" + ("/paragraphs" if match[1] == "xquad-r" else "")


def _oracle(dataset_id: str, dataset: Any, k: int, analyzer: str | None, cache: Path, quiet: bool) -> tuple[Iterable[TopicRun], dict[str, Any]]:
    """BM25 with the English topics over the English documents (paragraphs, where sentences are ranked), carried over by what is parallel."""
    from csrerank.collections.catalogue import load
    from csrerank.retrieval.carry import PARAGRAPHS, carry_over

    english = carried_from(dataset_id)
    sentences = english.endswith("/paragraphs") and not dataset_id.endswith("/paragraphs")
    members: dict[str, list[str]] = {}
    for document in dataset.docs_iter():
        members.setdefault(document.unit, []).append(document.doc_id)
    depth = PARAGRAPHS if sentences else k
    run, how = _bm25(load(english), english, depth, analyzer, cache, quiet)
    return carry_over(run, members, k, depth), {
        **how,
        "oracle": "candidates carried over from the English run, which knows the English topic",
        "carried from": english,
    }


def _progress(topics: list[tuple[str, str]], what: str, quiet: bool) -> Iterable[tuple[str, str]]:
    from tqdm import tqdm

    return tqdm(topics, unit="topic", desc=what, disable=quiet or not sys.stderr.isatty())
