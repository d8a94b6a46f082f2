"""A toy tokenizer and checkpoint, built in seconds: XLM-R's form, character pieces, random weights from a fixed seed."""

from pathlib import Path

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!'äöüßéабвгдежзиклмнопрстуملاتي你好鲸"
WORDS = ["▁the", "▁whale", "▁sleep", "ing", "▁wal", "▁кит"]


def build_checkpoint(folder: Path, labels: int = 1, layers: int = 2) -> Path:
    """Write a sequence-classification checkpoint with ``labels`` logits and 130 positions (128 tokens)."""
    import torch
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaForSequenceClassification

    vocab = (
        [(piece, 0.0) for piece in SPECIAL]
        + [("▁", -2.0)]
        + [(word, -4.0) for word in WORDS]
        + [(letter, -5.0 - at / 100) for at, letter in enumerate(LETTERS)]
        + [("<mask>", 0.0)]
    )
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=128, bos_token="<s>", eos_token="</s>", sep_token="</s>", cls_token="<s>", unk_token="<unk>", pad_token="<pad>", mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    config = XLMRobertaConfig(
        vocab_size=len(vocab), hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=64, max_position_embeddings=130, type_vocab_size=1, num_labels=labels,
        pad_token_id=1, bos_token_id=0, eos_token_id=2, initializer_range=0.4,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = XLMRobertaForSequenceClassification(config)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def demo_run(path: Path, topics: int, depth: int) -> Path:
    """A run over csrerank/demo/en-de: the first topics, each with so many documents, another stretch of the collection for each."""
    from csrerank.collections.catalogue import load

    dataset = load("csrerank/demo/en-de")
    docs = [doc.doc_id for doc in dataset.docs_iter()]
    with path.open("w") as file:
        for place, query in enumerate(list(dataset.queries_iter())[:topics]):
            for rank in range(depth):
                file.write(f"{query.query_id} Q0 {docs[(place * 7 + rank) % len(docs)]} {rank + 1} {depth - rank} bm25\n")
    return path
