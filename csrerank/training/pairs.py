"""Training pairs: a topic with a relevant document, and with negatives drawn from a first-stage run; every draw is keyed by (topic, epoch, seed)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from csrerank.collections.sampling import uniform
from csrerank.trec import TopicRun


class Pair(NamedTuple):
    """A topic's text, a document's text, and 1.0 for relevant or 0.0."""

    query: str
    text: str
    label: float


def draw(candidates: list[str], count: int, *key: str | int) -> list[str]:
    """``count`` distinct candidates (all, if fewer), each subset equally likely: those with the smallest keyed numbers."""
    return sorted(candidates, key=lambda candidate: uniform(*key, candidate))[:count]


def pairs(
    topics: Mapping[str, str], qrels: Mapping[str, Mapping[str, int]], run: Iterable[TopicRun], texts: Mapping[str, str],
    negatives: int = 4, depth: int = 50, epoch: int = 0, seed: int = 1,
) -> Iterator[Pair]:  # fmt: skip
    """One positive and ``negatives`` negatives a topic, in the run's order.

    Negatives come from the top ``depth`` of the run without any judged relevant document (Litschko et al. 2023: 1 to 4). A topic without a relevant document,
    or with none in ``run``, gives no pair.
    """
    for ranking in run:
        grades = qrels.get(ranking.topic, {})
        relevant = [document for document, grade in grades.items() if grade > 0]
        candidates = [document for document in ranking.docs[:depth] if grades.get(document, 0) <= 0]
        if not relevant or not candidates:
            continue
        query = topics[ranking.topic]
        for document in draw(relevant, 1, "positive", seed, epoch, ranking.topic):
            yield Pair(query, texts[document], 1.0)
        for document in draw(candidates, negatives, "negative", seed, epoch, ranking.topic):
            yield Pair(query, texts[document], 0.0)
