"""How the checkpoint that ships was trained: zero-shot, on English questions and sentences, with BM25 negatives and the paper's objective."""

from pathlib import Path

from csrerank.training.pairs import pairs
from csrerank.training.pointwise import train

DATASET = "csrerank/en-qa/train"
EPOCHS = 2
DEPTH = 100  # of the BM25 run; negatives come from its top 50


def train_default(encoder: Path, output: Path, cache: Path, resume: bool = False, quiet: bool = False) -> Path:
    """Train from ``encoder`` into ``output`` (Hugging Face directories): two passes over the 13,149 questions, each with one positive and four negatives drawn anew. About an hour on two cores."""
    from csrerank.collections.catalogue import load
    from csrerank.evaluation.scoring import dataset_qrels
    from csrerank.retrieval.bm25 import BM25
    from csrerank.retrieval.first_stage import bm25_index

    dataset = load(DATASET)
    topics = {query.query_id: query.text for query in dataset.queries_iter()}
    texts = {document.doc_id: document.text for document in dataset.docs_iter()}
    qrels = dataset_qrels(DATASET)
    run = list(BM25(bm25_index(dataset, DATASET, "en", cache, quiet)).search(topics.items(), DEPTH))
    drawn = [pair for epoch in range(EPOCHS) for pair in pairs(topics, qrels, run, texts, epoch=epoch)]
    return train(encoder, drawn, output, resume=resume, quiet=quiet)
