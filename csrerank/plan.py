"""What a re-ranking job has to do: the topics of a run in order and the pairs to score, each with a text, known before anything is scored."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from csrerank.errors import InputError
from csrerank.trec import TopicRun, read_run
from csrerank.windows import Pair

if TYPE_CHECKING:
    from csrerank.collections.texts import Documents, Topics

_LOOKUP = 4096  # documents asked of a store at once while checking


class Plan(NamedTuple):
    """What a pass over the run found: its topics in order, the pairs to score, documents below k, the missing documents and topics (to be skipped), and
    SHA-256 of the texts to be scored, so that a journal is never taken for other texts under the same name."""

    topics: list[str]
    pairs: int
    below: int
    missing: frozenset[str]
    skipped: int
    skipped_topics: int
    texts: str


def planned(source: str | Path, shown: str | Path, topics: "Topics", documents: "Documents", k: int, missing: str) -> Plan:
    """Check that every topic and every document of the run ``source`` has a text; the run itself is validated by reading it whole. ``shown`` is its name for a person.

    Raises ``InputError`` for what has none, unless ``missing`` is ``skip``, and where nothing is left to score.
    """
    order: list[str] = []
    without: set[str] = set()
    lacking: list[str] = []
    pairs = below = skipped = 0
    digest = hashlib.sha256()
    name = "standard input" if shown == "-" else shown

    def asked() -> Iterator[tuple[str, bool]]:
        nonlocal skipped
        for ranking in read_run(source):
            if ranking.topic not in topics.texts:
                lacking.append(ranking.topic)
                skipped += len(ranking.docs)
                continue
            order.append(ranking.topic)
            digest.update(f"{ranking.topic}\0{topics.texts[ranking.topic]}\0".encode())
            yield from ((doc, place < k) for place, doc in enumerate(ranking.docs))

    stream = asked()
    while rows := list(islice(stream, _LOOKUP)):
        found = documents.texts(list(dict.fromkeys(doc for doc, _ in rows)))
        for doc, scored in rows:
            if doc not in found:
                without.add(doc)
                skipped += 1
            elif scored:
                pairs += 1
                digest.update(f"{doc}\0{found[doc]}\0".encode())
            else:
                below += 1
    if missing != "skip" and lacking:
        raise InputError(
            f"{name}: topic {lacking[0]!r}{_others(len(lacking))} has no text in the topics given; check that run and topics belong together, or give --missing skip"
        )
    if missing != "skip" and without:
        raise InputError(
            f"{name}: document {min(without)!r}{_others(len(without))} is not in the collection; check that run and collection belong together, or give --missing skip"
        )
    if not pairs:
        raise InputError(f"{name}: nothing to re-rank: no topic and document of the run has a text; check that run and collection belong together")
    return Plan(order, pairs, below, frozenset(without), skipped, len(lacking), digest.hexdigest())


def _others(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""


def pairs_of(rankings: Iterable[TopicRun], plan: Plan, k: int) -> Iterator[Pair]:
    """The pairs to score, in the run's order: the top ``k`` of each topic, without those that have no text."""
    kept = set(plan.topics)
    return (
        Pair(place, ranking.topic, doc)
        for place, ranking in enumerate(rankings)
        if ranking.topic in kept
        for doc in ranking.docs[:k]
        if doc not in plan.missing
    )
