"""Toy encoders without a task head, one for each architecture that backbones.py takes, each with the tokenizer class of the real one; built in a second."""

from pathlib import Path
from typing import Any

from toy import LETTERS, WORDS

POSITIONS = 130  # rows of the position table
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "initializer_range": 0.4, "hidden_dropout_prob": 0.1,
    "max_position_embeddings": POSITIONS,
}  # fmt: skip
# What is checked of each: model_type, the special tokens of a pair, and whether the tokenizer gives token types.
ENCODERS = {
    "xlm-r": ("xlm-roberta", "<s> {q} </s> </s> {d} </s>", False),
    "mbert": ("bert", "[CLS] {q} [SEP] {d} [SEP]", True),
    "mminilm": ("bert", "<s> {q} </s> </s> {d} </s>", False),
    "mdeberta": ("deberta-v2", "[CLS] {q} [SEP] {d} [SEP]", True),
    "labse": ("bert", "[CLS] {q} [SEP] {d} [SEP]", True),
}


def _unigram(first: list[str]) -> list[tuple[str, float]]:
    words = [("▁", -2.0), *((word, -4.0) for word in WORDS)]
    return [(piece, 0.0) for piece in first] + words + [(letter, -5.0 - at / 100) for at, letter in enumerate(LETTERS)]


def _tokenizer(kind: str) -> Any:
    from transformers import BertTokenizer, DebertaV2Tokenizer, XLMRobertaTokenizer

    if kind in ("xlm-r", "mminilm"):
        return XLMRobertaTokenizer(vocab=[*_unigram(["<s>", "<pad>", "</s>", "<unk>"]), ("<mask>", 0.0)])
    if kind == "mdeberta":
        return DebertaV2Tokenizer(vocab=[*_unigram(["[PAD]", "[CLS]", "[SEP]", "[UNK]"]), ("[MASK]", 0.0)])
    words = ["whale", "sleep", "##ing", "the", "кит"]
    unused = ["[unused1]", "[unused2]"] if kind == "mbert" else []  # as published: the other special tokens come behind these
    pieces = ["[PAD]", *unused, "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    return BertTokenizer(vocab={piece: at for at, piece in enumerate(pieces)}, do_lower_case=False)


def _model(kind: str, rows: int) -> Any:
    import transformers as t

    if kind == "xlm-r":  # as published: with the language-model head, without a pooler
        return t.XLMRobertaForMaskedLM(t.XLMRobertaConfig(vocab_size=rows, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2, **SIZES))
    if kind == "mdeberta":
        return t.DebertaV2ForMaskedLM(
            t.DebertaV2Config(
                vocab_size=rows, type_vocab_size=0, relative_attention=True, position_buckets=16, norm_rel_ebd="layer_norm", share_att_key=True,
                pos_att_type=["p2c", "c2p"], position_biased_input=False, pooler_hidden_size=32, legacy=False, pad_token_id=0, **SIZES,
            )
        )  # fmt: skip
    if kind == "mminilm":
        return t.BertModel(t.BertConfig(vocab_size=rows, pad_token_id=1, **SIZES), add_pooling_layer=False)
    config = t.BertConfig(vocab_size=rows, pad_token_id=0, **SIZES)
    return t.BertForPreTraining(config) if kind == "mbert" else t.BertModel(config)


def build_encoder(folder: Path, kind: str) -> Path:
    """Write the toy encoder ``kind`` (a key of ENCODERS) with 3 layers and 130 positions."""
    import torch

    tokenizer = _tokenizer(kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = _model(kind, len(tokenizer))
        for weight in model.parameters():
            if weight.dim() == 1:  # biases and norms of a trained model are neither 0 nor 1
                weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
