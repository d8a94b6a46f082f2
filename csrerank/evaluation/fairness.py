"""Fairness across languages: do documents of every language have the same chance of being seen, and does the language of the question matter."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from csrerank.errors import InputError
from csrerank.evaluation.measures import Qrels, ranked

if TYPE_CHECKING:
    from csrerank.trec import TopicRun

Languages = Mapping[str, str]  # document -> language
Rankings = Mapping[str, Sequence[str]]  # topic -> documents, best first
OWN = "the question's"


class Peer(NamedTuple):
    """What :func:`peer` found.

    :param values: topic -> PEER in [0, 1], for topics of the qrels with a document of a grade that has a weight
    :param tested: those of them where there was something to test: documents of several languages in one grade, not all below the cut-off
    """

    values: dict[str, float]
    tested: tuple[str, ...]

    def mean(self) -> float | None:
        """PEER of the run: the mean over all topics, which are 1 where there is nothing to test; None where no topic has anything to test."""
        return _mean(self.values.values()) if self.tested else None

    def tested_mean(self) -> float | None:
        """The mean over the tested topics only; None without any."""
        return _mean(self.values[topic] for topic in self.tested)


class Share(NamedTuple):
    """One language's part, 0 to 1, of the top k and of the relevant documents, each a mean over topics; ``ratio`` is None where no document is relevant."""

    top: float
    relevant: float
    difference: float
    ratio: float | None


class Shares(NamedTuple):
    """What :func:`shares` found.

    :param topics: how many count
    :param languages: language of the documents -> its share, in the order of the codes
    :param own: the share of documents in the language of the question; None where questions have none
    """

    topics: int
    languages: dict[str, Share]
    own: Share | None


class Consistency(NamedTuple):
    """What :func:`consistency` found: population variance and range (highest - lowest) over the languages of the question, means over ``topics``."""

    topics: int
    rank_variance: float
    rank_range: float
    rr_variance: float
    rr_range: float


class Gap(NamedTuple):
    """What :func:`clir_gap` found: the two means, monolingual - crosslingual, and that over monolingual (None where monolingual is 0)."""

    monolingual: float
    crosslingual: float
    absolute: float
    relative: float | None


def peer(run: "Iterable[TopicRun]", qrels: Qrels, languages: Languages, k: int, weights: Mapping[int, float] | None = None) -> Peer:
    """PEER@k, the Probability of Equal Expected Rank: 1 where no language's documents are ranked above another's of the same grade, towards 0 where one's are.

    Yang, Jänich, Mayfield and Lawrie, "Language Fairness in Multilingual Information Retrieval", SIGIR 2024 (arXiv 2405.00978): in each topic and grade, the
    p-value of a Kruskal-Wallis H test (chi-square, languages - 1 degrees of freedom) on the ranks of the grade's documents by language; the weighted sum over
    grades; the mean over topics. Relevant documents that are not in the top k share one rank below it. A grade with documents of one language, or with none in
    the top k, has p = 1. Grade 0, if it has a weight, is the documents in the top k that are not relevant, unjudged ones included. So do the paper's abstract
    and its authors' package, peer_measure 0.0.1; the paper itself could not be had when this was written.

    This differs from that package: it puts ranks in the run where the test has ranks among the grade's documents, and gives documents below k a rank that may
    lie above retrieved ones; here it is the test itself, with its correction for ties. There a grade without documents in a topic adds 0; here the other
    weights are scaled up to 1. There a topic that the run lacks is left out; here it has p = 1, and was not tested.

    :param run: one item a topic; documents are ranked as :func:`csrerank.evaluation.evaluate` ranks them
    :param languages: document -> language, for each document that is relevant or, where grade 0 has a weight, in the top k
    :param k: the cut-off, from 1
    :param weights: grade (from 0) -> weight; they add up to 1. By default the grades of the qrels from 1 up have equal ones.
    InputError: weights that do not, a cut-off below 1, a document without language, a run or qrels that cannot be evaluated.
    """
    tops, weighted = tops_of(run, k), _weights(qrels, weights)
    values: dict[str, float] = {}
    tested = []
    for topic, grades in qrels.items():
        ranks: dict[int, dict[str, list[int]]] = {}
        places = {doc: rank for rank, doc in enumerate(tops.get(topic, ()), 1)}
        # Documents that are not relevant count where they are seen; all others of the collection are not relevant too.
        pool = {doc: 0 for doc in places} | {doc: grade for doc, grade in grades.items() if grade >= 1}
        for doc, grade in pool.items():
            if grade in weighted:
                ranks.setdefault(grade, {}).setdefault(_language(languages, doc, topic), []).append(places.get(doc, k + 1))
        if ranks:
            p = {grade: _kruskal_wallis(list(groups.values())) for grade, groups in ranks.items()}
            total = math.fsum(weighted[grade] for grade in p)
            values[topic] = math.fsum(weighted[grade] * (1.0 if value is None else value) for grade, value in p.items()) / total
            if any(value is not None for value in p.values()):
                tested.append(topic)
    return Peer(values, tuple(tested))


def _weights(qrels: Qrels, weights: Mapping[int, float] | None) -> dict[int, float]:
    """The weights above 0."""
    if weights is None:
        grades = sorted({qrels[topic][doc] for topic, docs in relevant_of(qrels).items() for doc in docs})
        return {grade: 1 / len(grades) for grade in grades}
    if any(grade < 0 for grade in weights) or not all(math.isfinite(weight) and weight >= 0 for weight in weights.values()):
        raise InputError(f"weights {dict(weights)}: grades and weights are from 0 up; mend or leave out the others")
    if not math.isclose(math.fsum(weights.values()), 1, abs_tol=1e-6):
        raise InputError(f"weights {dict(weights)} add up to {math.fsum(weights.values()):g}; divide them by that, so that they add up to 1")
    return {grade: weight for grade, weight in weights.items() if weight > 0}


def _kruskal_wallis(groups: Sequence[Sequence[int]]) -> float | None:
    """The p-value, or None where there is nothing to test."""
    if len(groups) < 2 or len({rank for group in groups for rank in group}) < 2:
        return None
    from scipy.stats import kruskal

    return float(kruskal(*groups).pvalue)


def shares(run: "Iterable[TopicRun]", qrels: Qrels, languages: Languages, k: int = 10, questions: Mapping[str, str] | None = None) -> Shares:
    """Each language's share of the documents in the top k beside its share of the relevant ones, and by how much and how many times the first is more.

    Both are fractions of a topic, then means over topics that have a relevant document and for which the run lists any document; shorter rankings are taken as
    they are. Where each relevant document stands in every language, every language's share of the relevant ones is the same. The ratio is of the two means. In
    fair ranking this is exposure of a group against its merit (Singh and Joachims, KDD 2018), without a discount within the top k; the arrangement is ours.
    Where questions are in several languages, a run that answers each in its own looks even: that is what ``own`` shows.

    :param languages: document -> language, for each document that is relevant or in the top k
    :param questions: topic -> language of the question, for all topics that count
    InputError: no topic to count, a cut-off below 1, a document or question without language, a run or qrels that cannot be evaluated.
    """
    tops, relevant = tops_of(run, k), relevant_of(qrels)
    counted = [topic for topic in relevant if tops.get(topic)]
    if not counted:
        raise InputError("the run lists no document for any topic with a relevant one; give the qrels, or name the collection, that the run was made from")
    if questions is not None and not questions.keys() >= set(counted):
        raise InputError(f"topic {min(set(counted) - questions.keys())!r}: the language of the question is not known; give that of every topic")
    parts = [(_fractions(languages, topic, tops[topic]), _fractions(languages, topic, relevant[topic])) for topic in counted]
    found = {lang: _share(parts, [lang] * len(parts)) for lang in sorted({lang for part in parts for fractions in part for lang in fractions})}
    return Shares(len(counted), found, _share(parts, [questions[topic] for topic in counted]) if questions is not None else None)


def _share(parts: Sequence[tuple[dict[str, float], dict[str, float]]], langs: Sequence[str]) -> Share:
    top, relevant = (math.fsum(part[side].get(lang, 0.0) for part, lang in zip(parts, langs, strict=True)) / len(parts) for side in (0, 1))
    return Share(top, relevant, top - relevant, top / relevant if relevant else None)


def _fractions(languages: Languages, topic: str, docs: Sequence[str]) -> dict[str, float]:
    counts = Counter(_language(languages, doc, topic) for doc in docs)
    return {lang: count / len(docs) for lang, count in counts.items()}


def consistency(runs: "Mapping[str, Iterable[TopicRun]]", qrels: Qrels, cutoff: int = 100, rr_cutoff: int = 10) -> Consistency:
    """How much depends on the language of the question: variance and range of the first relevant document's rank, and of RR, over runs of parallel topics.

    All runs rank the same documents for the same topic ids and qrels, each asked in one language. Languages are all there are, so the variance divides by
    their number. Not in the top ``cutoff``, or the topic not in the run: rank ``cutoff`` + 1. Topics without relevant documents are left out, and those that no run
    has. The measure is
    ours; Yang, Jiang and Baldwin's mean rank correlation (arXiv 2509.06195) compares whole rankings of parallel topics, whatever is relevant.

    :param runs: language of the question -> run
    InputError: fewer than two runs, one that shares no topic with the qrels, no relevant document, a cut-off below 1, a run that cannot be evaluated.
    """
    if len(runs) < 2:
        raise InputError(f"runs in {len(runs)} language(s) of the question; give at least two to compare")
    _check_cutoff(rr_cutoff)
    relevant = relevant_of(qrels)
    ranks: dict[str, list[int]] = {topic: [] for topic in relevant}
    asked: set[str] = set()
    for lang, run in runs.items():
        tops = tops_of(run, cutoff)
        if not tops.keys() & qrels.keys():
            raise InputError(f"the run of questions in {lang} has no topic of the qrels; give runs of the same parallel topics")
        for topic, docs in relevant.items():
            ranks[topic].append(next((rank for rank, doc in enumerate(tops.get(topic, ()), 1) if doc in docs), cutoff + 1))
        asked |= tops.keys()
    if not asked & ranks.keys():
        raise InputError("no run has a topic with a relevant document; give the qrels that belong to the runs")
    found = np.array([values for topic, values in ranks.items() if topic in asked], dtype=np.float64)
    spreads = [spread(values, axis=1).mean() for values in (found, np.where(found <= min(cutoff, rr_cutoff), 1 / found, 0)) for spread in (np.var, np.ptp)]
    return Consistency(len(found), *map(float, spreads))


def clir_gap(values: Mapping[tuple[str, str], float]) -> Gap:
    """How much is lost between languages: a measure's mean over the monolingual pairs (MoIR) minus its mean over the others (CLIR); 0 is none.

    Every pair weighs the same. The relative gap is the share of the monolingual value that is lost, 1 - CLIR / MoIR, after CLIR's habit of quoting per cent of
    the monolingual baseline; taking plain means over pairs is ours.

    :param values: (language of the question, language of the documents) -> value
    InputError: no monolingual or no other pair, or a value that is not finite.
    """
    for (query, document), value in values.items():
        if not math.isfinite(value):
            raise InputError(f"{query}-{document}: value {value} is not finite; leave the pair out or evaluate it again")
    same = _mean(value for (query, document), value in values.items() if query == document)
    other = _mean(value for (query, document), value in values.items() if query != document)
    if same is None or other is None:
        lacking = "monolingual pair such as en-en" if same is None else "pair of two languages such as en-de"
        raise InputError(f"no {lacking} among {', '.join(map('-'.join, values)) or 'no pairs at all'}; the gap needs both kinds")
    return Gap(same, other, same - other, (same - other) / same if same else None)


def tops_of(run: "Iterable[TopicRun]", k: int) -> dict[str, list[str]]:
    """Topic -> its first k documents, as trec_eval ranks them."""
    _check_cutoff(k)
    tops: dict[str, list[str]] = {}
    for topic, docs, scores in run:
        if topic in tops:
            raise InputError(f"topic {topic!r} comes twice in the run; put its documents together")
        tops[topic] = ranked(topic, docs, scores)[:k]
    return tops


def relevant_of(qrels: Qrels) -> dict[str, list[str]]:
    """Topic -> its relevant documents, of topics that have any."""
    found = {topic: docs for topic, grades in qrels.items() if (docs := [doc for doc, grade in grades.items() if grade >= 1])}
    if not found:
        raise InputError("the qrels hold no relevant document; give qrels with a grade of 1 or more")
    return found


def _language(languages: Languages, doc: str, topic: str) -> str:
    if doc not in languages:
        raise InputError(f"topic {topic!r}: the language of document {doc!r} is not known; name the collection that run and qrels were made from")
    return languages[doc]


def _check_cutoff(k: int) -> None:
    if k < 1:
        raise InputError(f"the cut-off is {k}; give 1 or more")


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else None
