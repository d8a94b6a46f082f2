"""Negatives: documents that do not answer, drawn for each topic from a BM25 run, a dense run, the same article, the collection's training pairs, or at random,
in stated shares.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Protocol

from csrerank.errors import InputError

SOURCES = ("bm25", "dense", "article", "docpairs", "random")
RUNS = ("bm25", "dense")
DEPTH = 50  # of a run, without the relevant documents
Shares = tuple[tuple[str, float], ...]


class Candidates(Protocol):
    """Where a topic's negatives may come from."""

    def __call__(self, topic: str, relevant: str) -> Sequence[str]:
        """Documents for a topic, beside this relevant one."""
        ...


def parse_shares(text: str) -> Shares:
    """Read ``bm25=2,dense=1``: sources and their weights; a source alone weighs 1. Raises ``InputError``."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, weight = part.strip().partition("=")
        if name not in SOURCES or name in shares:
            raise InputError(
                f"--negatives {text}: {name!r} is {'given twice' if name in shares else 'no source'}; known are {' '.join(SOURCES)}, as bm25=2,dense=1"
            )
        try:
            shares[name] = float(weight) if equals else 1.0
        except ValueError:
            shares[name] = -1.0
        if not 0 < shares[name] < 1e9:
            raise InputError(f"--negatives {text}: the weight of {name} must be a number above 0")
    whole = sum(shares.values())
    return tuple((name, weight / whole) for name, weight in shares.items())


class Drawer:
    """Draws negatives. Every draw is keyed by (seed, epoch, topic, place), so it depends neither on the order of topics nor on how a job is run.

    :param sources: the candidates of each source but ``random``.
    :param everything: all document ids, for ``random``.
    :param relevant: topic -> its relevant documents, which are never drawn.
    """

    def __init__(self, shares: Shares, sources: Mapping[str, Candidates], everything: Sequence[str], relevant: Mapping[str, frozenset[str]], seed: int) -> None:
        self._names, self._bounds = [name for name, _ in shares], list(accumulate(share for _, share in shares))
        self._sources, self._everything, self._relevant, self._seed = sources, everything, relevant, seed

    def check(self, topics: Iterable[str], count: int) -> None:
        """Raise ``InputError`` where the collection has too few documents for ``count`` negatives of one of ``topics``."""
        most = max(len(self._relevant[topic]) for topic in topics)
        if len(self._everything) < most + count:
            raise InputError(f"{len(self._everything)} documents are too few for {count} negatives beside the relevant ones; lower --negatives-per-topic")

    def draw(self, topic: str, positive: str, count: int, epoch: int) -> list[tuple[str, str]]:
        """``count`` distinct documents, each with the source it came from: ``random`` where the source drawn for it has none left. The collection must have as
        many (``check``).
        """
        from csrerank.collections.sampling import uniform  # here, for the command line to start without ir_datasets

        taken = set(self._relevant[topic]) | {positive}
        found = []
        for place in range(count):
            share = uniform("source", self._seed, epoch, topic, place) * self._bounds[-1]
            name = next(name for name, bound in zip(self._names, self._bounds, strict=True) if share < bound)
            candidates = [] if name == "random" else [document for document in self._sources[name](topic, positive) if document not in taken]
            if candidates:
                chosen = min(candidates, key=lambda document: uniform("negative", self._seed, epoch, topic, document))
            else:
                name, chosen = "random", self._anywhere(topic, epoch, place, taken)
            taken.add(chosen)
            found.append((chosen, name))
        return found

    def _anywhere(self, topic: str, epoch: int, place: int, taken: set[str]) -> str:
        from csrerank.collections.sampling import uniform

        attempt = 0
        while True:
            chosen = self._everything[int(uniform("random", self._seed, epoch, topic, place, attempt) * len(self._everything))]
            if chosen not in taken:
                return chosen
            attempt += 1


def of_run(run: Mapping[str, Sequence[str]]) -> Candidates:
    """The documents of a run."""
    return lambda topic, relevant: run.get(topic, ())


def of_article(members: Mapping[str, Sequence[str]], article_of: Mapping[str, str]) -> Candidates:
    """The other documents of the relevant document's article."""
    return lambda topic, relevant: members[article_of[relevant]]
