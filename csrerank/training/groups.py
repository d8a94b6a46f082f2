"""Groups: a topic with one relevant document and its negatives, drawn and switched anew in each epoch; what a training sees, in an order fixed beforehand."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from csrerank.collections.sampling import uniform
from csrerank.training.collection import Collection
from csrerank.training.negatives import Drawer


class Group(NamedTuple):
    """A topic's text and those of its documents, the relevant one first; ``teacher`` are the documents' scores by a teacher, if there is one."""

    topic: str
    documents: list[str]
    query: str
    passages: list[str]
    teacher: list[float]


class Teacher:
    """Scores of plain topics with plain documents: the cosines of a bi-encoder.

    :param topics: topic -> its row in ``queries``, float32 [topics, hidden] of unit length.
    :param documents: document -> its row in ``vectors``, float32 [documents, hidden] of unit length.
    """

    def __init__(self, topics: dict[str, int], queries: np.ndarray, documents: dict[str, int], vectors: np.ndarray) -> None:
        self._topics, self._queries, self._documents, self._vectors = topics, queries, documents, vectors

    @classmethod
    def of(cls, collection: Collection, encoder: Path, cache: Path, quiet: bool = False) -> "Teacher":
        """The cosines of the bi-encoder in the directory ``encoder`` over a whole collection; its vectors are kept in ``cache``."""
        from csrerank.models.checkpoint import directory_hash
        from csrerank.models.embedding import Embedder
        from csrerank.retrieval.dense import embed_cached

        embedder, key, documents = Embedder.load(encoder), directory_hash(encoder), collection.all_documents()
        texts = collection.texts(documents)
        vectors = embed_cached(embedder, [texts[document] for document in documents], "passage", cache, key, quiet)
        queries = embed_cached(embedder, list(collection.topics.values()), "query", cache, key, quiet)
        rows = {document: row for row, document in enumerate(documents)}
        return cls({topic: row for row, topic in enumerate(collection.topics)}, queries, rows, vectors)

    def scores(self, topic: str, documents: Sequence[str]) -> list[float]:
        """Cosines of a topic with documents."""
        rows = [self._documents[document] for document in documents]
        return [float(score) for score in self._vectors[rows] @ self._queries[self._topics[topic]]]


class Groups:
    """The groups of a training in the order in which it sees them: a sequence, so that a killed job goes on at any place.

    :param order: (epoch, topic) of each group.
    :param negatives: documents beside the relevant one.
    """

    def __init__(
        self, collection: Collection, drawer: Drawer, order: Sequence[tuple[int, str]], negatives: int, seed: int, teacher: Teacher | None = None
    ) -> None:
        self._collection, self._drawer, self._order, self._count, self._seed, self._teacher = collection, drawer, order, negatives, seed, teacher

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, place: int) -> Group:
        epoch, topic = self._order[place]
        collection = self._collection
        positive, negatives = self._drawn(place)
        documents = [positive, *(document for document, _ in negatives)]
        texts = collection.texts(documents)
        return Group(
            topic,
            documents,
            collection.switched(collection.topics[topic], topic, "query", epoch),
            [collection.switched(texts[document], document, "passage", epoch) for document in documents],
            self._teacher.scores(topic, documents) if self._teacher else [],
        )

    def _drawn(self, place: int) -> tuple[str, list[tuple[str, str]]]:
        epoch, topic = self._order[place]
        positive = min(self._collection.relevant[topic], key=lambda document: uniform("positive", self._seed, epoch, topic, document))
        return positive, self._drawer.draw(topic, positive, self._count, epoch)

    def sources(self, count: int) -> dict[str, int]:
        """Source -> how many negatives of the first ``count`` groups came from it: drawn again, so that it holds for a job that was killed in between."""
        counted: Counter[str] = Counter()
        for place in range(count):
            counted.update(source for _, source in self._drawn(place)[1])
        return dict(counted.most_common())


def chosen(topics: Iterable[str], count: int | None) -> list[str]:
    """``count`` of the topics (all, for None), fixed by a hash: those of a smaller count are among those of a larger one."""
    return sorted(topics, key=lambda topic: uniform("topic", topic))[:count]


def order(topics: Sequence[str], epochs: int, seed: int) -> list[tuple[int, str]]:
    """(epoch, topic), each epoch in an order of its own, keyed by (seed, epoch, topic)."""
    return [(epoch, topic) for epoch in range(epochs) for topic in sorted(topics, key=lambda topic: uniform("order", seed, epoch, topic))]
