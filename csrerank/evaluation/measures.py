"""Measures of a run against qrels: trectools computes them, guarded so that every value is trec_eval's.

What is guarded, and why (trectools 0.0.50):

- its readers turn ids into numbers (``007`` becomes 7), so it gets frames of strings, never a file;
- its measures break ties in two different ways, so documents are ranked here, as trec_eval does, before it sees them;
- its means divide by the topics of the run, so only its per-topic values are used and the mean is taken here;
- it leaves out, or gives NaN to, topics that score 0, so those are filled in here.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from csrerank.errors import InputError

if TYPE_CHECKING:
    import pandas

    from csrerank.trec import TopicRun

Qrels = Mapping[str, Mapping[str, int]]

KINDS = ("RR", "nDCG", "AP", "P", "R")
KNOWN = "RR, RR@k, nDCG, nDCG@k, AP, AP@k, P@k, R@k; all but nDCG take a relevance threshold, as in AP(rel=2)@100"
_SPELLINGS = {kind.lower(): kind for kind in KINDS} | {"mrr": "RR", "map": "AP", "recall": "R", "precision": "P"}
_PATTERN = re.compile(r"(?P<kind>[A-Za-z]+)(?:\( *rel *= *(?P<rel>[0-9]{1,9}) *\))?(?:@(?P<cutoff>[0-9]{1,9}))?")
# Rows that trectools gets at once: its time a row no longer falls beyond this, and its memory stays near 150 MB.
_BLOCK_ROWS = 200_000


class Measure(NamedTuple):
    """A measure of one topic's ranking; :func:`parse_measure` makes one from its usual spelling.

    :param name: what tables call it, in ir_measures' spelling (``AP(rel=2)@100``)
    :param kind: one of ``RR``, ``nDCG``, ``AP``, ``P``, ``R``
    :param cutoff: number of documents looked at, from 1; None for the whole ranking (not for ``P`` and ``R``)
    :param rel: lowest grade that counts as relevant, from 1; ``nDCG`` is graded and takes 1 only
    """

    name: str
    kind: str
    cutoff: int | None
    rel: int = 1


class Scores(Mapping[str, Mapping[str, float]]):
    """What :func:`evaluate` found: measure name -> topic -> value in [0, 1], for every topic of the qrels, in their order.

    :param values: the mapping itself
    :param missing: topics of the qrels that the run lacks; each scores 0
    :param unjudged: topics of the run that the qrels lack; they are ignored
    """

    def __init__(self, values: Mapping[str, Mapping[str, float]], missing: tuple[str, ...] = (), unjudged: tuple[str, ...] = ()) -> None:
        self._values = values
        self.missing = missing
        self.unjudged = unjudged

    def __getitem__(self, name: str) -> Mapping[str, float]:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def mean(self, measure: Measure | str) -> float:
        """Give the mean over all topics of the qrels, those that the run lacks included. KeyError: it was not evaluated."""
        values = self._values[measure.name if isinstance(measure, Measure) else measure]
        return math.fsum(values.values()) / len(values)


def parse_measure(text: str) -> Measure:
    """Read a measure in ir_measures' spelling, in any case: ``RR@10``, ``nDCG@20``, ``AP(rel=2)@100``, ``R@100``, ``P@10``.

    ``MRR`` is RR, ``MAP`` is AP, ``Recall`` is R, ``Precision`` is P; the name given back is the canonical one.

    InputError: the measure is unknown or incomplete.
    """
    match = _PATTERN.fullmatch(text.strip())
    kind = _SPELLINGS.get(match["kind"].lower()) if match else None
    if match is None or kind is None:
        raise InputError(f"measure {text!r}: not known; use one of {KNOWN}")
    cutoff = int(match["cutoff"]) if match["cutoff"] else None
    rel = int(match["rel"]) if match["rel"] else 1
    name = kind + (f"(rel={rel})" if rel != 1 else "") + (f"@{cutoff}" if cutoff is not None else "")
    measure = Measure(name, kind, cutoff, rel)
    _check(measure, text)
    return measure


def _check(measure: Measure, shown: str) -> None:
    if measure.kind not in KINDS:
        raise InputError(f"measure {shown!r}: kind {measure.kind!r} is not known; use one of {KNOWN}")
    if measure.kind in ("P", "R") and measure.cutoff is None:
        raise InputError(f"measure {shown!r}: {measure.kind} needs a cut-off; write for instance {measure.kind}@10")
    if measure.cutoff is not None and measure.cutoff < 1:
        raise InputError(f"measure {shown!r}: the cut-off is {measure.cutoff}; give 1 or more")
    if measure.rel < 1:
        raise InputError(f"measure {shown!r}: relevance threshold {measure.rel}, but grades below 1 are never relevant; give 1 or more")
    if measure.kind == "nDCG" and measure.rel != 1:
        raise InputError(f"measure {shown!r}: nDCG is graded and takes no relevance threshold; leave out (rel={measure.rel})")


def evaluate(run: "Iterable[TopicRun]", qrels: Qrels, measures: Sequence[Measure]) -> Scores:
    """Score a run topic by topic, as ``trec_eval -c`` does.

    Topics: every topic of the qrels counts. One that the run lacks (or lists no document for) scores 0 and is in ``Scores.missing``; one
    without any relevant document scores 0 too, whatever the run holds: trec_eval -c goes through all topics of the qrels and skips none.
    Topics without judgements are ignored and are in ``Scores.unjudged``.

    Ranking: score descending, compared as 32-bit floats, then document id descending by its UTF-8 bytes; the order within a
    ``TopicRun`` is of no account. So do trec_eval up to 9.0.8 and pytrec_eval; trec_eval 10 compares 64-bit floats and may differ
    where scores are closer than a 32-bit float can show. Runs that csrerank writes have no such ties.

    Formulas, those of trec_eval (recip_rank, map, map_cut, P, recall, ndcg, ndcg_cut): a document is relevant from grade ``rel`` up,
    an unjudged one never. AP and R divide by all relevant documents of the topic, P by the cut-off, even where fewer are listed.
    nDCG's gain is the grade (a negative one counts as 0), its discount 1 / log2(rank + 1), its ideal ranking made of all judged
    documents; with a cut-off both rankings are cut. trec_eval has no cut-off for RR: here a first relevant document beyond it gives 0.
    trectools 0.0.50 computes all of these.

    :param run: one item a topic, read once as a stream; only a block of topics is in memory
    :param qrels: topic -> document -> grade
    :param measures: what to compute, one column each
    InputError: no measure, no topic in the qrels, a measure that does not exist, a topic or a document twice, scores and documents of
    different number, or a score that is NaN.
    """
    if not measures:
        raise InputError("no measure given; name at least one, such as RR@10")
    if not qrels:
        raise InputError("the qrels hold no topic; give qrels with at least one judgement")
    by_name = {measure.name: measure for measure in measures}
    for measure in measures:
        _check(measure, measure.name)
        if by_name[measure.name] != measure:
            raise InputError(f"measure {measure.name!r}: two different measures have this name; rename one")
    values = {name: dict.fromkeys(qrels, 0.0) for name in by_name}
    cutoffs = [measure.cutoff for measure in measures if measure.cutoff is not None]
    depth = max(cutoffs) if len(cutoffs) == len(measures) else None
    seen: dict[str, bool] = {}
    for block in _blocks(_rankings(run, qrels, depth, seen)):
        for name, measure in by_name.items():
            values[name].update(_block_values(block, qrels, measure))
    missing = tuple(topic for topic in qrels if not seen.get(topic, False))
    unjudged = tuple(topic for topic, listed in seen.items() if listed and topic not in qrels)
    return Scores(values, missing, unjudged)


def _rankings(run: "Iterable[TopicRun]", qrels: Qrels, depth: int | None, seen: dict[str, bool]) -> Iterator[tuple[str, list[str]]]:
    """Yield topic and documents in trec_eval's order, cut to what the measures need; ``seen`` notes each topic, True if it lists any."""
    for topic, docs, scores in run:
        if topic in seen:
            raise InputError(f"topic {topic!r} comes twice in the run; put its documents together")
        seen[topic] = bool(docs)
        grades = qrels.get(topic)
        if grades is None or not docs:
            continue
        ranking = ranked(topic, docs, scores)[:depth]
        relevant = [rank for rank, doc in enumerate(ranking) if grades.get(doc, 0) >= 1]
        if relevant:
            # No measure here gains or loses by documents after the last relevant one (P divides by its cut-off), and trectools is slow.
            yield topic, ranking[: relevant[-1] + 1]


def ranked(topic: str, docs: Sequence[str], scores: Sequence[float]) -> list[str]:
    import numpy as np

    if len(docs) != len(scores):
        raise InputError(f"topic {topic!r} of the run: {len(docs)} documents and {len(scores)} scores; give one score a document")
    if len(set(docs)) != len(docs):
        twice = next(doc for rank, doc in enumerate(docs) if doc in docs[:rank])
        raise InputError(f"topic {topic!r} of the run: document {twice!r} comes twice; keep one")
    with np.errstate(over="ignore"):  # beyond float32 is infinite, as in trec_eval
        values = np.asarray(scores, dtype=np.float64).astype(np.float32)
    if np.isnan(values).any():
        doc = docs[int(np.isnan(values).argmax())]
        raise InputError(f"topic {topic!r} of the run: the score of document {doc!r} is not a number; score it again")
    if bool((values[:-1] > values[1:]).all()):
        return list(docs)
    # str compares by code point, which is the order of the UTF-8 bytes that trec_eval compares.
    return [doc for _, doc in sorted(zip(values.tolist(), docs, strict=True), reverse=True)]


def _blocks(rankings: Iterable[tuple[str, list[str]]]) -> Iterator[dict[str, list[str]]]:
    block: dict[str, list[str]] = {}
    rows = 0
    for topic, docs in rankings:
        block[topic] = docs
        rows += len(docs)
        if rows >= _BLOCK_ROWS:
            yield block
            block, rows = {}, 0
    if block:
        yield block


def _block_values(block: Mapping[str, list[str]], qrels: Qrels, measure: Measure) -> dict[str, float]:
    """Give trectools' values of a block, without the topics that score 0 for want of a relevant document."""
    from trectools import TrecEval, TrecQrel, TrecRun

    # AP and R divide by the relevant documents: topics without any must not reach trectools.
    relevant = {topic: {doc: grade for doc, grade in qrels[topic].items() if grade >= measure.rel} for topic in block}
    topics = [topic for topic in block if relevant[topic]]
    if not topics:
        return {}
    judged, run = TrecQrel(), TrecRun()
    judged.qrels_data = _qrels_frame({topic: relevant[topic] for topic in topics})
    run.load_run_from_dataframe(_run_frame({topic: block[topic][: measure.cutoff] for topic in topics}))
    evaluation = TrecEval(run, judged)
    # Without a cut-off, nDCG's ideal ranking must not be cut either.
    depth = measure.cutoff or len(run.run_data) + len(judged.qrels_data)
    # trec_eval=False leaves the order of the frame as it is, which is ours; get_ndcg always does, and there True means linear gain.
    if measure.kind == "nDCG":
        column = evaluation.get_ndcg(depth=depth, per_query=True, trec_eval=True)
    elif measure.kind == "RR":
        column = evaluation.get_reciprocal_rank(depth=depth, per_query=True, trec_eval=False)
    elif measure.kind == "AP":
        column = evaluation.get_map(depth=depth, per_query=True, trec_eval=False)
    elif measure.kind == "P":
        column = evaluation.get_precision(depth=depth, per_query=True, trec_eval=False)
    else:
        column = evaluation.get_recall(depth=depth, per_query=True, trec_eval=False)
    # Absent or NaN is trectools' way of saying that nothing relevant was within the cut-off.
    return {str(topic): float(value) for topic, value in column.iloc[:, 0].items() if not math.isnan(value)}


def _run_frame(rankings: Mapping[str, Sequence[str]]) -> "pandas.DataFrame":
    import pandas as pd

    ranks = [rank for docs in rankings.values() for rank in range(1, len(docs) + 1)]
    return pd.DataFrame(
        {
            "query": [topic for topic, docs in rankings.items() for _ in docs],
            "q0": "Q0",
            "docid": [doc for docs in rankings.values() for doc in docs],
            "rank": ranks,
            "score": [-float(rank) for rank in ranks],
            "system": "run",
        }
    )


def _qrels_frame(relevant: Qrels) -> "pandas.DataFrame":
    import pandas as pd

    return pd.DataFrame(
        {
            "query": [topic for topic, grades in relevant.items() for _ in grades],
            "q0": "0",
            "docid": [doc for grades in relevant.values() for doc in grades],
            "rel": [grade for grades in relevant.values() for grade in grades.values()],
        }
    )
