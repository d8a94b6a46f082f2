"""How the checkpoint that ships was trained: zero-shot, on English questions and sentences, with BM25 negatives and the paper's objective."""

from pathlib import Path

from csrerank.errors import InputError
from csrerank.models.card import write_card
from csrerank.training.pairs import pairs
from csrerank.training.pointwise import train

DATASET = "csrerank/en-qa/train"
EPOCHS = 2
LIMITS = (
    "Trained on English alone: what it knows of other languages comes from its encoder, and cross-lingual ranking is its weak side.",
    "Trained on single sentences; passages longer than 512 tokens are cut (csrerank's --window scores them by parts).",
    "The vocabulary is trimmed to the languages above; others cost more pieces a word and rank worse.",
    "Which nine of the encoder's twelve layers are kept was chosen on XQuAD, so XQuAD-R figures are a little too kind.",
)
DEPTH = 100  # of the BM25 run; negatives come from its top 50


def train_default(encoder: Path, output: Path, cache: Path, resume: bool = False, quiet: bool = False) -> Path:
    """Train from ``encoder`` into ``output`` (Hugging Face directories): two passes over the 13,149 questions, each with one positive and four negatives
    drawn anew. About an hour on two cores.
    """
    from csrerank.collections.catalogue import download_md5, load
    from csrerank.collections.en_qa import CORE, NAME
    from csrerank.evaluation.scoring import dataset_qrels
    from csrerank.retrieval.bm25 import BM25
    from csrerank.retrieval.first_stage import bm25_index

    if not (encoder / "config.json").exists():
        raise InputError(f"{encoder}: no encoder there; make it with scripts/build_encoder")
    if resume and not list((output / "checkpoints").glob("checkpoint-*")):
        raise InputError(f"{output}: no checkpoint to resume from; leave --resume out")
    dataset = load(DATASET)
    topics = {query.query_id: query.text for query in dataset.queries_iter()}
    texts = {document.doc_id: document.text for document in dataset.docs_iter()}
    qrels = dataset_qrels(DATASET)
    run = list(BM25(bm25_index(dataset, DATASET, "en", cache, quiet)).search(topics.items(), DEPTH))
    drawn = [pair for epoch in range(EPOCHS) for pair in pairs(topics, qrels, run, texts, epoch=epoch)]
    train(encoder, drawn, output, resume=resume, quiet=quiet)
    training = {
        "data": f"{DATASET} ({len(topics)} questions, {len(texts)} sentences), sources by MD5: "
        + ", ".join(f"{name} {md5}" for name, md5 in download_md5(NAME).items() if name in CORE),
        "policy": "none: English queries and English sentences (zero-shot)",
        "negatives": f"4 a question, drawn from the top 50 of BM25, anew in each of {EPOCHS} passes",
        "objective": "binary cross-entropy on single pairs, learning rate 5e-5, 32 pairs a step, AdamW, linear warm-up and decay",
        "pairs": str(len(drawn)),
        "frozen": "embedding table",
    }
    write_card(output, base="intfloat/multilingual-e5-small", training=training, limits=LIMITS)
    return output
