"""Fairness of run files in print: PEER, and shares by language, with languages and judgements out of the collection."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from csrerank.errors import InputError
from csrerank.evaluation.fairness import OWN, Peer, Shares, peer, relevant_of, shares, tops_of

FORMATS = ("table", "tsv", "json")
_PEER = ("peer", "topics", "peer of tested", "tested topics")


def document_languages(dataset_id: str, docs: Iterable[str]) -> dict[str, str]:
    """Document -> language, for those of ``docs`` that an MLIR track holds. InputError: an unknown collection, or one whose documents have no languages."""
    from csrerank.collections import mmarco
    from csrerank.collections.catalogue import PREFIX, load
    from csrerank.collections.sampling import draw_language

    dataset = load(dataset_id)
    only = dataset.docs_lang() if dataset.has_docs() else None
    if only or not dataset.has_docs() or "lang" not in dataset.docs_cls()._fields:
        why = f"all its documents are in {only}" if only else "its documents have no language"
        raise InputError(f"{dataset_id}: {why}, and there is nothing to compare; give --dataset ID of an MLIR track, such as {PREFIX}/xquad-r/x4-x4")
    track = dataset_id.removeprefix(f"{PREFIX}/{mmarco.NAME}/").partition("/")[0].partition("-")[2]
    if dataset_id.startswith(f"{PREFIX}/{mmarco.NAME}/") and track in mmarco.TRACKS:
        # Its docstores would build one index a language, of millions of passages, to tell what the draw knows.
        return {doc: draw_language(mmarco.TRACKS[track], "doc", doc) for doc in docs}
    return {document.doc_id: document.lang for document in dataset.docs_store().get_many_iter(docs) if document.lang}


def fairness_table(runs: Sequence[str], dataset: str | None = None, k: int = 10, form: str = "table") -> str:
    """PEER@k and the shares in the top k of run files: two aligned tables, ``tsv`` (run, documents, measure, value), or ``json``, these with values in full.

    PEER stands there twice: of relevant documents (grades from 1 up weighted equally), and of those in the top k that are not relevant (grade 0).
    Judgements and languages come from the ir_datasets id ``dataset``, or from the one that the runs' metadata names.
    InputError: as :func:`peer`, :func:`shares` and :func:`document_languages`, an unknown format, a run that has no topic or other documents of the collection.
    """
    from csrerank.collections.catalogue import load
    from csrerank.evaluation.scoring import dataset_named, dataset_qrels, row_names
    from csrerank.trec import TopicRun, read_run

    if form not in FORMATS:
        raise InputError(f"unknown format {form!r}; known are {' '.join(FORMATS)}")
    source = dataset or dataset_named(runs)
    languages = document_languages(source, ())  # a collection without languages is said before anything is read
    qrels = dataset_qrels(source)
    handler = load(source)
    speaks = handler.has_queries() and "lang" in handler.queries_cls()._fields
    questions = {topic.query_id: topic.lang for topic in handler.queries_iter()} if speaks else None
    judged = {doc for docs in relevant_of(qrels).values() for doc in docs}
    records = []
    for name, run in row_names(runs).items():
        tops = tops_of(read_run(run), k)
        if not tops.keys() & qrels.keys():
            raise InputError(f"{run}: has no topic of {source}; give --dataset ID of the collection that it was made from")
        listed = {doc for docs in tops.values() for doc in docs}
        languages |= document_languages(source, (listed | judged) - languages.keys())
        if listed - languages.keys():
            raise InputError(f"{run}: {source} has no document {min(listed - languages.keys())!r}; give --dataset ID of the collection that it was made from")
        cut = [TopicRun(topic, docs, [-float(rank) for rank in range(len(docs))]) for topic, docs in tops.items()]
        peers = {"relevant": peer(cut, qrels, languages, k), "not relevant": peer(cut, qrels, languages, k, {0: 1.0})}
        records.append(_record(name, k, peers, shares(cut, qrels, languages, k, questions)))
    return json.dumps(records, indent=1, ensure_ascii=False) if form == "json" else _tsv(records) if form == "tsv" else _tables(records, k)


def _record(run: str, k: int, peers: Mapping[str, Peer], parts: Shares) -> dict[str, Any]:
    rows = {docs: dict(zip(_PEER, (p.mean(), len(p.values), p.tested_mean(), len(p.tested)), strict=True)) for docs, p in peers.items()}
    own = {OWN: parts.own._asdict()} if parts.own else {}
    return {"run": run, "k": k, "peer": rows, "topics": parts.topics, "shares": {lang: share._asdict() for lang, share in parts.languages.items()} | own}


def _tsv(records: Sequence[Mapping[str, Any]]) -> str:
    lines = ["run\tdocuments\tmeasure\tvalue"]
    for record in records:
        name = record["run"]
        if any(mark in name for mark in "\t\r\n"):
            raise InputError(f"run name {name!r} holds a tab or a line break; rename the run")
        for docs, values in {"all": {"k": record["k"], "topics": record["topics"]}, **record["peer"], **record["shares"]}.items():
            lines += [f"{name}\t{docs}\t{measure}\t{'' if value is None else value}" for measure, value in values.items()]
    return "\n".join(lines)


def _tables(records: Sequence[Mapping[str, Any]], k: int) -> str:
    peers = [["run", "documents", f"PEER@{k}", "topics", "of tested", "topics"]]
    parts = [["run", "language", f"of top {k}", "of relevant", "difference", "ratio"]]
    for rows, column in ((peers, "peer"), (parts, "shares")):
        rows += [[record["run"], key, *values.values()] for record in records for key, values in record[column].items()]
    return "\n".join([*_aligned(peers), "", *_aligned(parts)])


def _aligned(rows: Iterable[Sequence[str | float | None]]) -> Iterator[str]:
    cells = [["-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(cell.ljust(width) if at < 2 else cell.rjust(width) for at, (cell, width) in enumerate(zip(row, widths, strict=True)))
