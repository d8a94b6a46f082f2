"""Scores of run files: reads runs and qrels, evaluates, and gives the table to print."""

from collections.abc import Sequence
from pathlib import Path

from csrerank.errors import InputError
from csrerank.evaluation.measures import evaluate, parse_measure
from csrerank.evaluation.table import remarks, table
from csrerank.metadata import dataset_of
from csrerank.trec import read_qrels, read_run


def score_runs(runs: Sequence[str], qrels: str | None, dataset: str | None, measures: str, by_topic: bool = False) -> tuple[str, list[str]]:
    """The table of ``runs`` (files; ``-`` is standard input) by ``measures`` (comma-separated) and remarks on topics that do not match.

    Judgements come from the file ``qrels``, or from an ir_datasets id: ``dataset``, or the one that the first run's metadata names.
    """
    wanted = [parse_measure(name) for name in measures.split(",") if name.strip()]
    if not wanted:
        raise InputError("--measures is empty; give some, as RR@10,nDCG@10")
    if qrels and dataset:
        raise InputError("--qrels and --dataset both give judgements; leave one out")
    source = None if qrels else dataset or _named(runs)
    judged = read_qrels(qrels) if qrels else dataset_qrels(str(source))
    said = [] if qrels or dataset else [f"judgements of {source} (from the run's metadata)"]
    rows = {}
    for run in runs:
        name = run if run in rows or sum(Path(other).name == Path(run).name for other in runs) > 1 else Path(run).name
        rows[name] = evaluate(read_run(run), judged, wanted)
    return table(rows, by_topic), said + remarks(rows)


def _named(runs: Sequence[str]) -> str:
    """The dataset that the runs' sidecars name, which must be one."""
    named = {}
    for run in runs:
        if run != "-":
            next(iter(read_run(run)))  # a run that cannot be read is said first
        named[run] = dataset_of(run) if run != "-" else None
        if named[run] is None:
            raise InputError(f"{run}: no judgements to score by: give --qrels FILE or --dataset ID; the run has no sidecar that names one")
        if named[run] != named[runs[0]]:
            raise InputError(f"{run}: made from {named[run]}, but {runs[0]} from {named[runs[0]]}; score them apart, or give --qrels FILE or --dataset ID")
    return str(named[runs[0]])


def dataset_qrels(dataset_id: str) -> dict[str, dict[str, int]]:
    """The judgements of an ir_datasets id, ``topic -> document -> grade``."""
    from csrerank.collections.catalogue import load

    dataset = load(dataset_id)
    if not dataset.has_qrels():
        raise InputError(f"{dataset_id} has no judgements; give --qrels FILE")
    judged: dict[str, dict[str, int]] = {}
    for row in dataset.qrels_iter():
        judged.setdefault(row.query_id, {})[row.doc_id] = row.relevance
    return judged
