"""Scores of run files: reads runs and qrels, evaluates, and gives the table to print."""

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from csrerank.errors import InputError
from csrerank.evaluation.answers import TOKENIZERS, AnswerScores, Questions, answer_measures, dataset_questions, evaluate_answers, tokenizer
from csrerank.evaluation.measures import evaluate, parse_measure
from csrerank.evaluation.table import remarks, table
from csrerank.files import is_stream
from csrerank.lines import opened, source_name
from csrerank.metadata import dataset_of
from csrerank.trec import read_qrels, read_run


def score_runs(
    runs: Sequence[str], qrels: str | None, dataset: str | None, measures: str, by_topic: bool = False, tokens: str | None = None
) -> tuple[str, list[str]]:
    """The table of ``runs`` (files; ``-`` is standard input) by ``measures`` (comma-separated) and remarks on topics that do not match.

    Judgements come from the file ``qrels``, or from an ir_datasets id: ``dataset``, or the one that the first run's metadata names. Measures such as
    R@2kt take answers from that id and passages from its documents, and ``tokens`` names their tokenizer; runs may be prediction files then.
    """
    names = [name.strip() for name in measures.split(",") if name.strip()]
    if not names:
        raise InputError("--measures is empty; give some, as RR@10,nDCG@10")
    budgets = answer_measures(names)
    if budgets:
        if qrels:
            raise InputError(f"{qrels}: {next(iter(budgets))} looks for answers, which qrels have not; give --dataset ID in its place")
        return _score_answers(runs, dataset, budgets, by_topic, tokens or next(iter(TOKENIZERS)))
    if tokens:
        raise InputError("--tokenizer is for measures such as R@2kt; leave it out")
    wanted = [parse_measure(name) for name in names]
    if qrels and dataset:
        raise InputError("--qrels and --dataset both give judgements; leave one out")
    source = None if qrels else dataset or dataset_named(runs)
    judged = read_qrels(qrels) if qrels else dataset_qrels(str(source))
    said = [] if qrels or dataset else [f"judgements of {source} (from the run's metadata)"]
    rows = {name: evaluate(read_run(run), judged, wanted) for name, run in row_names(runs).items()}
    return table(rows, by_topic), said + remarks(rows)


def row_names(runs: Sequence[str]) -> dict[str, str]:
    """Row -> run: a run is called by its file's name where that tells it from the others, else by its path."""
    rows: dict[str, str] = {}
    for run in runs:
        rows[run if run in rows or sum(Path(other).name == Path(run).name for other in runs) > 1 else Path(run).name] = run
    return rows


def _score_answers(runs: Sequence[str], dataset: str | None, budgets: Mapping[str, int], by_topic: bool, tokens: str) -> tuple[str, list[str]]:
    tokenize = tokenizer(tokens)
    files = {run: is_prediction_file(run) for run in runs}
    if any(files.values()) and dataset is None:
        raise InputError(f"{next(run for run in runs if files[run])}: no answers to score by; give --dataset ID")
    source = dataset or dataset_named(runs)
    questions = dataset_questions(source)
    said = [] if dataset else [f"answers of {source} (from the run's metadata)"]
    said.append(f"tokens: {tokens} ({TOKENIZERS[tokens]})")
    rows = {}
    for name, run in row_names(runs).items():
        rankings = _predicted(run, questions) if files[run] else _looked_up(run, source)
        rows[name] = evaluate_answers(rankings, questions, budgets, tokenize)
    said += remarks(rows, "questions with an answer to look for", "answer to look for")
    return table(rows, by_topic), said + [line for name, scores in rows.items() for line in _by_language(name, scores)]


def is_prediction_file(run: str) -> bool:
    """Whether a file starts as a JSON list of objects, as XOR-Retrieve's prediction files do; standard input and pipes are taken for runs."""
    if is_stream(run):
        return False
    with opened(run, source_name(run)) as stream:
        try:
            start = stream.read(4096)
        except (OSError, EOFError, zlib.error):
            return False  # reading it as a run says what is wrong
    return re.match(rb"\s*\[\s*(\{|\]|$)", start) is not None


def _predicted(run: str, questions: Questions) -> Iterator[tuple[str, Iterable[str]]]:
    from csrerank.collections.xor_retrieve import read_predictions

    for entry in read_predictions(run):
        if isinstance(entry, str):
            raise InputError(entry)
        lang = questions.languages.get(entry.topic, entry.lang)
        if lang != entry.lang:
            raise InputError(f"{run}: question {entry.topic!r} is in {lang}, not {entry.lang}; write its language in lang")
        yield entry.topic, entry.passages


def _looked_up(run: str, dataset: str) -> Iterator[tuple[str, Iterable[str]]]:
    from csrerank.collections.xor_retrieve import PassageTexts

    texts = PassageTexts(dataset)
    for topic, docs, _ in read_run(run):
        yield topic, texts.ranked(topic, docs, run)


def _by_language(name: str, scores: AnswerScores) -> Iterator[str]:
    """A line a measure with each language's value, where there are several."""
    for measure in scores:
        means = scores.by_language(measure)
        if len(means) > 1:
            yield f"{name}: {measure} by language, whose mean the table has: {', '.join(f'{lang} {value:.4f}' for lang, value in means.items())}"


def dataset_named(runs: Sequence[str]) -> str:
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
