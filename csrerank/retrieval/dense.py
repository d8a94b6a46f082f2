"""The dense first stage: faiss over embeddings of a bi-encoder; it works across languages, where BM25 sees only shared words."""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from csrerank.models.embedding import Embedder
from csrerank.trec import TopicRun

_BLOCK = 4096


def search(vectors: np.ndarray, ids: Sequence[str], queries: np.ndarray, topics: Sequence[str], k: int) -> Iterator[TopicRun]:
    """The ``k`` documents nearest to each topic by inner product, exactly (faiss ``IndexFlatIP``).

    ``vectors`` is float32 [documents, hidden] and ``queries`` float32 [topics, hidden], both of unit length, so a score is a cosine.
    """
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    scores, places = index.search(queries, min(k, len(ids)))
    for topic, row, found in zip(topics, scores, places, strict=True):
        yield TopicRun(topic, [ids[place] for place in found], [float(score) for score in row])


def embed_cached(embedder: Embedder, texts: Sequence[str], kind: Any, cache: Path, model_key: str, quiet: bool) -> np.ndarray:
    """Embeddings of ``texts``: float32 [texts, hidden], kept in ``cache`` in blocks named by what they were made from, so that a killed job goes on where it
    was and a second one reads them.
    """
    from tqdm import tqdm

    folder = cache / "embeddings"
    folder.mkdir(parents=True, exist_ok=True)
    blocks = []
    with tqdm(total=len(texts), unit="text", desc=f"embedding ({kind})", disable=quiet or not sys.stderr.isatty()) as bar:
        for start in range(0, len(texts), _BLOCK):
            block = list(texts[start : start + _BLOCK])
            key = hashlib.sha256("\x1f".join([model_key, kind, *block]).encode()).hexdigest()
            path = folder / f"{key}.npy"
            if not path.exists():
                work = path.with_name(f".{key}.{os.getpid()}.npy")
                np.save(work, embedder.embed(block, kind, progress=bar))
                work.replace(path)
            else:
                bar.update(len(block))
            blocks.append(np.load(path))
    return np.concatenate(blocks)
