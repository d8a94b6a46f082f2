"""Candidates: what the cells of a track rank. They are made once, under a name that says what they are made from, and cut to the scale's topics and depth."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from csrerank.errors import InputError
from csrerank.experiments.layout import CELL, KEPT, MEASURE, Layout, scores_of, short_hash, write_scores
from csrerank.experiments.scale import Scale
from csrerank.experiments.tracks import Track
from csrerank.trec import TopicRun, read_run, write_run

DEPTH = 100  # documents a topic of a first-stage run
LISTED = ("mmarco",)  # collections whose candidates are given with them
_MAKERS = {"dense": ("csrerank", "torch", "transformers", "tokenizers", "faiss-cpu"), "oracle": ("csrerank", "pyserini")}


def versions_of(*names: str) -> dict[str, str]:
    """Installed versions, without a build's own part: torch 2.7+cpu is torch 2.7."""
    from csrerank.metadata import versions

    return {name: version.partition("+")[0] for name, version in versions().items() if name in names}


@cache
def qrels_of(dataset_id: str, count: int | None) -> Mapping[str, Mapping[str, int]]:
    """The judgements of ``count`` topics (all, for None), fixed by a hash. They are chosen among the judged topics, so that one without candidates counts, as 0."""
    from csrerank.evaluation.scoring import dataset_qrels
    from csrerank.training.groups import chosen

    judged = dataset_qrels(dataset_id)
    kept = set(chosen(judged, count))
    return {topic: grades for topic, grades in judged.items() if topic in kept}


def qrels_hash(dataset_id: str, count: int | None) -> str:
    """SHA-256 of those judgements."""
    return hashlib.sha256(json.dumps(qrels_of(dataset_id, count), sort_keys=True).encode()).hexdigest()


@cache
def texts_hash(dataset_id: str, run: Path, run_hash: str) -> str:
    """SHA-256 of the texts of a run's topics and documents; ``run_hash`` is the run's, by which the answer is kept in this process."""
    from csrerank.collections.texts import DatasetDocuments, dataset_topics

    topics, documents = dataset_topics(dataset_id).texts, DatasetDocuments(dataset_id)
    digest = hashlib.sha256()
    for ranking in read_run(run):
        found = documents.texts(ranking.docs)
        digest.update(f"{ranking.topic}\0{topics.get(ranking.topic, '')}\0".encode())
        for document in ranking.docs:
            digest.update(f"{document}\0{found.get(document, '')}\0".encode())
    return digest.hexdigest()


@cache
def _encoder_hash(encoder: Path) -> str:
    from csrerank.models.checkpoint import directory_hash

    return directory_hash(encoder)


def depth(layout: Layout, scale: Scale) -> int:
    """Candidates a topic."""
    return scale.unordered if layout.collection in LISTED else scale.k


def candidates_path(track: Track, stage: str, layout: Layout, scale: Scale, encoder: Path | None) -> Path:
    """Where the candidates of a track at this scale lie, once they are made."""
    key = short_hash(_whole_key(track, stage, layout, encoder), str(depth(layout, scale)), *sorted(qrels_of(track.dataset, scale.topics)))
    return layout.candidates(track, stage, key)


def _whole_key(track: Track, stage: str, layout: Layout, encoder: Path | None) -> str:
    from csrerank.collections.digests import documents_digest, topics_digest
    from csrerank.retrieval.first_stage import carried_from

    if layout.collection in LISTED:  # given by files that ir_datasets knows by their hashes; no text makes them
        return short_hash(track.dataset, "scoreddocs", json.dumps(versions_of("csrerank", "ir_datasets")))
    made_by = [_encoder_hash(encoder)] if stage == "dense" and encoder else []
    read = [track.dataset, *([carried_from(track.dataset)] if stage == "oracle" else [])]
    made_by += [digest(dataset) for dataset in read for digest in (topics_digest, documents_digest)]
    return short_hash(track.dataset, stage, str(DEPTH), *made_by, json.dumps(versions_of(*_MAKERS[stage])))


def first_stage(track: Track, stage: str, layout: Layout, scale: Scale, encoder: Path | None, quiet: bool) -> Path:
    """The candidates of a track at this scale, whole in ``work``; what the tables need of them is kept in ``runs``.

    ``encoder`` is the bi-encoder of dense ones. Raises ``InputError`` where they cannot be made.
    """
    from csrerank.metadata import read_sidecar, write_sidecar
    from csrerank.retrieval.apart import first_stage_run

    path, judged = candidates_path(track, stage, layout, scale, encoder), qrels_of(track.dataset, scale.topics)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        if layout.collection in LISTED:
            about: dict[str, Any] = {"data": {"test collection": {"name": track.dataset, "ir_datasets": track.dataset}}, "candidates": "its scoreddocs"}
            cut = listed_candidates(track.dataset, judged, depth(layout, scale))
        else:
            whole = layout.candidates(track, stage, f"whole.{_whole_key(track, stage, layout, encoder)}")
            first_stage_run(track.dataset, stage, DEPTH, whole, encoder=encoder if stage == "dense" else None, quiet=quiet)
            about = read_sidecar(whole) or {}
            cut = (TopicRun(topic, docs[: scale.k], scores[: scale.k]) for topic, docs, scores in read_run(whole) if topic in judged)
        write_sidecar(path, {**about, "cut to": {"topics": len(judged), "k": depth(layout, scale)}})
        write_run(path, cut, stage)  # last, since it says that both are there
    _keep_first_row(track, stage, layout, scale, path)
    return path


def listed_candidates(dataset_id: str, topics: Iterable[str], most: int) -> Iterator[TopicRun]:
    """The candidates that a dataset gives (its scoreddocs) for these topics, ``most`` of each.

    MS MARCO's list has no scores and no order. So its candidates are taken in the order of a hash, which shows no relevance, and is no ranking.
    Raises ``InputError`` where no topic has a candidate.
    """
    from csrerank.collections.catalogue import load
    from csrerank.collections.sampling import uniform

    found: dict[str, list[str]] = {topic: [] for topic in topics}
    for row in load(dataset_id).scoreddocs_iter():
        if row.query_id in found:
            found[row.query_id].append(row.doc_id)
    if not any(found.values()):
        raise InputError(f"{dataset_id}: its scoreddocs have none of its judged topics; delete ir_datasets' copy of them, so that it is downloaded again")
    for topic, documents in found.items():
        drawn = sorted(dict.fromkeys(documents), key=lambda document: uniform("candidate", topic, document))[:most]  # noqa: B023 - used within the turn
        if drawn:
            yield TopicRun(topic, drawn, [float(len(drawn) - place) for place in range(len(drawn))])


def _keep_first_row(track: Track, stage: str, layout: Layout, scale: Scale, candidates: Path) -> None:
    """The candidates' top documents, and their scores where the candidates have an order."""
    from csrerank.collections.texts import file_hash
    from csrerank.metadata import read_sidecar, sidecar, write_sidecar

    run = layout.first_stage(track, stage)
    made_from = {"candidates sha256": file_hash(candidates), "qrels sha256": qrels_hash(track.dataset, scale.topics)}
    ordered = layout.collection not in LISTED
    if run.exists() and (scores_of(run).exists() or not ordered) and (read_sidecar(run) or {}).get(CELL) == made_from:
        return
    rankings = list(read_run(candidates))
    run.parent.mkdir(parents=True, exist_ok=True)
    sidecar(run).unlink(missing_ok=True)
    write_run(run, (TopicRun(ranking.topic, ranking.docs[:KEPT], ranking.scores[:KEPT]) for ranking in rankings), stage)
    if ordered:
        write_scores(scores_of(run), scored(rankings, track.dataset, scale))
    write_sidecar(run, {**(read_sidecar(candidates) or {}), "kept": {"documents a topic": KEPT}, CELL: made_from})


def scored(rankings: Iterable[TopicRun], dataset_id: str, scale: Scale) -> Mapping[str, float]:
    """RR@10 of every topic that the scale chooses."""
    from csrerank.evaluation.measures import evaluate, parse_measure

    return evaluate(rankings, qrels_of(dataset_id, scale.topics), [parse_measure(MEASURE)])[MEASURE]
