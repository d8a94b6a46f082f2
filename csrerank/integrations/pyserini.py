"""Re-ranks pyserini's hits: what LuceneSearcher found goes in, hits in a better order come out, ready for pyserini.output_writer."""

from collections.abc import Callable, Iterable
from math import floor
from typing import TYPE_CHECKING, Any, NamedTuple

from csrerank.errors import InputError

if TYPE_CHECKING:
    from csrerank.models.reranker import Reranker


class Hit(NamedTuple):
    """A re-ranked hit. ``docid`` and ``score`` are what pyserini's writers read; ``raw`` is the stored document where it was looked at, ``contents`` the text that was scored."""

    docid: str
    score: float
    raw: str | None = None
    contents: str | None = None


def rerank_hits(reranker: "Reranker", query: str, hits: Iterable[Any] | None, searcher: Any = None, text: Callable[[Any], str] | None = None) -> list[Hit]:
    """Score the hits of one query anew and sort them, best first; ties keep the order given. The hits that went in stay as they are.

    ::

        from csrerank.integrations import jvm
        from csrerank.integrations.pyserini import rerank_hits
        from csrerank.models.reranker import Reranker
        jvm.start()  # before pyserini is imported
        from pyserini.search.lucene import LuceneSearcher
        better = rerank_hits(Reranker.load(), query, LuceneSearcher("index").search(query, 100))

    Scores are multiples of 0.000001, the model's logits rounded, because pyserini's TREC writer prints six decimals: two hits that it would print alike would be a tie in the file. A score that does not lie
    below the one before it is lowered to the next multiple that does, both as printed and as the float32 that trec_eval reads (which are further apart from 8 upwards). So the run falls strictly.

    :param hits: of ``search``, or of one query of ``batch_search``; anything with ``docid`` will do, so other searchers' hits and ours too. None is no hits.
    :param searcher: where documents are looked up, by ``searcher.doc(docid)``, if hits do not carry them (dense searchers' do not; LuceneSearcher's and ours do).
    :param text: gives the text of a hit, in place of what is stored.
    :raises InputError: a document that has no text to score, or whose id the searcher does not know.
    """
    found = [_document(hit, searcher, text) for hit in hits or ()]
    ranked = reranker.rerank(query, found, lambda hit: hit.contents or "")
    return [hit._replace(score=score) for (hit, _), score in zip(ranked, printable([score for _, score in ranked]), strict=True)]


def printable(scores: Iterable[float]) -> list[float]:
    """Descending scores as multiples of 0.000001 that fall strictly, as printed with ``:.6f`` and as float32 alike."""
    import numpy as np

    fixed: list[float] = []
    for score in scores:
        value = round(float(score), 6) + 0.0  # no -0.0, which prints a sign
        if fixed and np.float32(value) >= np.float32(fixed[-1]):
            below = np.nextafter(np.float32(fixed[-1]), np.float32(-np.inf))
            value = floor(float(below) * 1_000_000) / 1_000_000  # the product is exact: 24 bits times 14 fit a double
        fixed.append(value)
    return fixed


def _carried(hit: Any) -> tuple[str | None, str | None]:
    """What a hit has of its document: Lucene searchers' hits have a ``lucene_document``, ours ``raw`` and ``contents``, dense searchers' nothing."""
    document = getattr(hit, "lucene_document", None)
    if document is not None:
        return document.get("raw"), document.get("contents")
    return getattr(hit, "raw", None), getattr(hit, "contents", None)


def _document(hit: Any, searcher: Any, text: Callable[[Any], str] | None) -> Hit:
    """The hit with its text, by the first of: ``text``, what the hit carries, what the searcher stores."""
    raw, contents = _carried(hit)
    if text is not None:
        return Hit(hit.docid, 0.0, raw, text(hit))
    if raw is None and contents is None:
        if searcher is None:
            raise InputError(f"document {hit.docid!r}: the hit carries no text; give searcher= (which looks documents up) or text=")
        stored = searcher.doc(hit.docid)
        if stored is None:
            raise InputError(f"document {hit.docid!r}: not in the searcher's index; give the searcher that found it, or text=")
        raw, contents = stored.raw(), stored.contents()
    if raw is None and contents is None:
        raise InputError(f"document {hit.docid!r}: the index stores no texts; rebuild it with --storeRaw, or give text=")
    if raw is None:
        return Hit(hit.docid, 0.0, None, contents)
    from csrerank.collections.texts import stored_text  # brings ir_datasets along

    return Hit(hit.docid, 0.0, raw, stored_text(raw, f"document {hit.docid!r}"))
