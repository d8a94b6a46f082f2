"""Models: the 4-bit file, pairs and batches, MaxP windows, and what is refused as a checkpoint."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csrerank.errors import InputError
from csrerank.models import batching
from csrerank.models.batching import PairEncoder, batches
from csrerank.models.checkpoint import find_model
from csrerank.models.e5 import Q4, read_e5
from csrerank.models.settings import Windows


def e5_file(path: Path) -> Path:
    """A file in the layout of ``e5-small-q4.bin`` with two pieces and two tensors."""
    pieces, scores = [b"<s>", "▁é".encode()], [0.0, -2.5]
    offsets = np.cumsum([0, *map(len, pieces)]).astype("<u4")
    head = b"E5S1" + struct.pack("<I7ifi", 1, 32, 1, 2, 64, 4, 8, 2, 1e-12, 32)
    vocabulary = struct.pack("<5iQ", 2, 0, 2, 1, 3, int(offsets[-1])) + offsets.tobytes() + np.array(scores, "<f4").tobytes() + b"".join(pieces)
    table = struct.pack("<iI", 1, 9) + struct.pack("<IBI", 65, 1, 97)
    floats = np.arange(3, dtype="<f4").tobytes()
    # One Q4_0 block: scale 0.5, byte j holds weight j in its low nibble and weight j + 16 in its high one.
    block = np.float16(0.5).tobytes() + bytes((j % 16) | ((15 - j % 16) << 4) for j in range(16))
    start = len(head) + len(vocabulary) + len(table) + 4 + (2 + 1 + 21) * 2
    directory = (
        struct.pack("<i", 2)
        + struct.pack("<H", 1)
        + b"f"
        + struct.pack("<BIQQ", 0, 3, start, 12)
        + struct.pack("<H", 1)
        + b"q"
        + struct.pack("<BIQQ", 1, 32, start + 12, 18)
    )
    path.write_bytes(head + vocabulary + table + directory + floats + block)
    return path


def test_the_4_bit_file_is_read_as_documented(tmp_path: Path) -> None:
    e5 = read_e5(e5_file(tmp_path / "e5.bin"))
    assert e5.sizes == {"hidden": 32, "layers": 1, "heads": 2, "ffn": 64, "vocab": 4, "max_pos": 8, "type_vocab": 2}
    assert e5.pieces == [("<s>", 0.0), ("▁é", -2.5)]
    assert np.array_equal(e5.tensors["f"], [0, 1, 2])
    weights = e5.tensors["q"]
    assert isinstance(weights, Q4)
    expected = [0.5 * (j - 8) for j in range(16)] + [0.5 * (15 - j - 8) for j in range(16)]
    assert weights.dequantised().tolist() == expected
    (tmp_path / "other.bin").write_bytes(b"GGUF....")
    with pytest.raises(InputError, match="not an E5S1 file"):
        read_e5(tmp_path / "other.bin")


def tokenizer_of(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_pairs_assembled_from_ids_equal_the_tokenizers_own(toy_model: Path) -> None:
    tokenizer = tokenizer_of(toy_model)
    encoder = PairEncoder(tokenizer, 128, 64)
    queries, passages = ["the whale?", "the whale?", "кит"], ["sleeping, wal!", "k", "the whale?"]
    inputs, owners = encoder.encode(queries, passages)
    assert owners == [0, 1, 2]
    assert [encoded.ids for encoded in inputs] == [tokenizer(query, passage)["input_ids"] for query, passage in zip(queries, passages, strict=True)]
    assert encoder.passages_cut == 0


def test_only_the_passage_is_cut_and_the_query_is_capped(toy_model: Path) -> None:
    encoder = PairEncoder(tokenizer_of(toy_model), 20, 6)
    (encoded,), _ = encoder.encode(["abcdefghij"], ["klmnopqrstuvwxyz"])
    assert len(encoded.ids) == 20 and encoded.split == 1 + 6 + 2
    assert encoder.queries_cut(["abcdefghij", "a"]) == 1 and encoder.passages_cut == 1
    with pytest.raises(InputError, match="leaves no room"):
        PairEncoder(tokenizer_of(toy_model), 20, 16)


def test_a_text_is_tokenised_once_while_it_is_among_those_kept(toy_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = PairEncoder(tokenizer_of(toy_model), 128, 64)
    asked: list[str] = []
    tokenised = encoder._ids
    monkeypatch.setattr(encoder, "_ids", lambda texts: asked.extend(texts) or tokenised(texts))
    first = encoder.encode(["the whale", "the whale"], ["kit", "sleeping"])
    assert encoder.encode(["the whale", "the whale"], ["kit", "sleeping"]) == first and sorted(asked) == ["kit", "sleeping", "the whale"]
    monkeypatch.setattr(batching, "KEPT", batching._size("sleeping", tokenised(["sleeping"])[0]))
    encoder.encode(["wal"], ["sleeping"])  # now the oldest go
    asked.clear()
    assert encoder.encode(["the whale", "the whale"], ["kit", "sleeping"]) == first and "the whale" in asked


def test_tokenizers_are_saved_under_a_name_that_transformers_4_knows(toy_model: Path, tmp_path: Path) -> None:
    from csrerank.models.checkpoint import save_tokenizer
    from csrerank.models.pack import default_pack

    save_tokenizer(tokenizer_of(toy_model), tmp_path)
    for folder in (tmp_path, Path(default_pack())):
        assert json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokenizer_of(tmp_path)("the whale")["input_ids"] == tokenizer_of(toy_model)("the whale")["input_ids"]


def test_what_the_models_own_code_multiplies_lies_in_memory_of_torchs(toy_model: Path) -> None:
    """The last bits of a product go by the addresses of its weights, and those of a file may be any."""
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings

    for light in (False, True):
        head = Reranker.load(toy_model, Settings(64, 16, precision="fp32"), "cpu", light=light).model.classifier
        assert [weights.data_ptr() % 64 for weights in head.parameters()] == [0] * len(list(head.parameters()))


def test_token_types_follow_bert(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = {token: at for at, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d"])}
    words = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    encoder = PairEncoder(tokenizer, 16, 4)
    (encoded,), _ = encoder.encode(["a d"], ["b c d"])
    own = tokenizer("a d", "b c d")
    assert encoder.uses_types and encoded.ids == own["input_ids"]
    assert [int(at >= encoded.split) for at in range(len(encoded.ids))] == own["token_type_ids"]


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 600))
def test_batches_hold_every_input_once_within_the_budget(lengths: list[int], budget: int) -> None:
    found = list(batches(lengths, budget))
    assert sorted(at for batch in found for at in batch) == list(range(len(lengths)))
    for batch in found:
        longest = max(lengths[at] for at in batch)
        assert len(batch) * longest <= budget or len(batch) == 1
    assert [lengths[at] for batch in found for at in batch] == sorted(lengths, reverse=True)


@given(st.integers(0, 500), st.integers(1, 60), st.integers(1, 60))
def test_windows_cover_the_passage(length: int, size: int, stride: int) -> None:
    if stride > size:
        with pytest.raises(InputError):
            Windows.checked(size, stride)
        return
    spans = Windows.checked(size, stride).spans(length)
    assert set().union(*(range(start, end) for start, end in spans)) == set(range(length))
    assert all(end - start <= size for start, end in spans)
    assert length > size or spans == [(0, length)]
    assert len(spans) == 1 or spans[-2][1] < length  # no window beyond the one that reaches the end


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "plainword", "a/b/c"])
def test_an_unknown_model_is_named(name: str) -> None:
    with pytest.raises(InputError, match="no such model"):
        find_model(name)


def test_a_head_in_fp32_is_not_rounded_to_8_bits(toy_model: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    from csrerank.models.reranker import head_in_fp32

    model = AutoModelForSequenceClassification.from_pretrained(toy_model).eval()
    ids = torch.arange(4, 44).view(-1, 5)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), head_in_fp32(model, True):
        logits = model(input_ids=ids).logits
    assert logits.dtype == torch.float32 and (logits != logits.to(torch.bfloat16).float()).any()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert model(input_ids=ids).logits.dtype == torch.bfloat16  # a plain model again
    assert "forward" not in vars(model.classifier)
