"""Carrying an English candidate list over to other languages, as the paper does on parallel collections: an *oracle*, since it knows the English topic."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from csrerank.trec import TopicRun

PARAGRAPHS = 20


def carry_over(run: Iterable[TopicRun], members: Mapping[str, Sequence[str]], k: int, paragraphs: int = PARAGRAPHS) -> Iterator[TopicRun]:
    """For each topic, the documents that ``members`` gives (in order) for the top ``paragraphs`` of the English ``run``, cut at ``k``.

    A sentence inherits its paragraph's score; ties go by sentence number, which is the order of ``members``.
    """
    for ranking in run:
        rows = [
            (document, score) for paragraph, score in zip(ranking.docs[:paragraphs], ranking.scores, strict=False) for document in members.get(paragraph, ())
        ][:k]
        yield TopicRun(ranking.topic, [document for document, _ in rows], [score for _, score in rows])
