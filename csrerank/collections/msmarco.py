"""``csrerank/msmarco/train``: MS MARCO's passages, training topics and judgements as ir_datasets has them, with sentence-transformers' shuffled list of training
triples as pairs.
"""

from typing import Any

from ir_datasets.formats import TsvDocPairs

from csrerank.collections.catalogue import Component, Documentation, downloads, register_once

NAME = "msmarco"
PASSAGES, TOPICS = "msmarco-passage", "msmarco-passage/train"


class _Triples:
    """The triples (topic, relevant passage, other passage), unpacked as they are read: the list has hundreds of millions of lines."""

    def stream(self) -> Any:
        import gzip
        from contextlib import contextmanager

        @contextmanager
        def opened() -> Any:
            with downloads(NAME)["triples"].stream() as packed, gzip.open(packed) as lines:
                yield lines

        return opened()


def register() -> None:
    """Register ``csrerank/msmarco/train``; nothing is read or downloaded before it is used."""
    parts = (Component(PASSAGES, "docs", "en"), Component(TOPICS, "queries", "en"), Component(TOPICS, "qrels"), TsvDocPairs(_Triples()))
    register_once(f"{NAME}/train", *parts, Documentation("msmarco.yaml")("train"))
