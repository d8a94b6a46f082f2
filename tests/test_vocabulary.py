"""Vocabulary trimming: the texts it goes by are cut as before, in all five architectures the model gives the same, and what other words become in WordPiece."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from toy import build_checkpoint
from toy.encoders import ENCODERS, build_encoder

from csrerank.errors import InputError
from csrerank.models.backbones import load_backbone
from csrerank.models.reranker import Reranker
from csrerank.models.settings import Settings
from csrerank.models.vocabulary import kept_ids, pieces_in_scripts, pieces_used, save_trimmed, trim_tokenizer

QUERY, DOCUMENT = "a whale", "sleeping кит"  # without "the", which the toys know
ROLES = ("unk", "pad", "cls", "sep", "mask")
EVERY = pytest.mark.parametrize("kind", ENCODERS)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: build_encoder(tmp_path_factory.mktemp(kind), kind) for kind in ENCODERS}


def loaded(folder: Path) -> tuple[Any, Any]:
    """The bare encoder and its tokenizer, by plain transformers."""
    from transformers import AutoModel, AutoTokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)  # some lack a pooler, which is drawn then
        return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def batch(tokenizer: Any) -> Any:
    return tokenizer([QUERY, "whale"], [DOCUMENT + ", KIT.", "?"], padding=True, return_tensors="pt")


def tokens(tokenizer: Any, inputs: Any) -> list[list[str]]:
    return [tokenizer.convert_ids_to_tokens(row) for row in inputs["input_ids"]]


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@EVERY
def test_encoder(kind: str, encoders: dict[str, Path], tmp_path: Path) -> None:
    """The saved directory is consistent, plain transformers loads it, special tokens keep their roles, and states and logits are the same."""
    whole, whole_tokenizer = loaded(encoders[kind])
    folder = save_trimmed(*loaded(encoders[kind]), [QUERY, DOCUMENT], tmp_path / "a" / "small")
    small, tokenizer = loaded(folder)
    config, before = read(folder / "config.json"), read(encoders[kind] / "config.json")
    assert len(tokenizer) == config["vocab_size"] == small.get_input_embeddings().num_embeddings < len(whole_tokenizer)
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    assert {piece.lstrip("▁") for piece in whole_tokenizer.get_vocab()} - {piece.lstrip("▁") for piece in tokenizer.get_vocab()} >= {"the"}
    for role in ROLES:
        assert (
            getattr(tokenizer, f"{role}_token")
            == getattr(whole_tokenizer, f"{role}_token")
            == tokenizer.convert_ids_to_tokens(getattr(tokenizer, f"{role}_token_id"))
        )
    for name in (name for name in before if name.endswith("_token_id") and before[name] is not None):
        assert tokenizer.convert_ids_to_tokens(config[name]) == whole_tokenizer.convert_ids_to_tokens(before[name]), name
    inputs, whole_inputs = batch(tokenizer), batch(whole_tokenizer)
    assert tokens(tokenizer, inputs) == tokens(whole_tokenizer, whole_inputs)
    assert all(torch.equal(inputs[name], whole_inputs[name]) for name in whole_inputs if name != "input_ids")
    with torch.no_grad():
        assert torch.equal(small(**inputs).last_hidden_state, whole(**whole_inputs).last_hidden_state)
        first, other = (load_backbone(source, "mean")[0].eval() for source in (folder, encoders[kind]))
        assert torch.equal(first(**inputs).logits, other(**whole_inputs).logits)


@EVERY
def test_cross_encoder(kind: str, encoders: dict[str, Path], tmp_path: Path) -> None:
    """A cross-encoder keeps its head, and scores a text with pieces that were dropped."""
    whole, whole_tokenizer = load_backbone(encoders[kind])
    folder = save_trimmed(*load_backbone(encoders[kind]), [QUERY, DOCUMENT], tmp_path / "small")
    reranker = Reranker.load(folder, Settings(max_length=64, query_tokens=16, precision="fp32"))
    scores = torch.from_numpy(reranker.score(QUERY, [DOCUMENT, QUERY]))
    with torch.no_grad():
        expected = whole.eval()(**whole_tokenizer([QUERY, QUERY], [DOCUMENT, QUERY], padding=True, return_tensors="pt")).logits[:, 0]
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    assert reranker.score("the", ["wal"]).shape == (1,)


def test_ids_in_the_configuration_follow(encoders: dict[str, Path], tmp_path: Path) -> None:
    model, tokenizer = loaded(encoders["mbert"])
    model.config.bos_token_id, model.config.eos_token_id = tokenizer.cls_token_id, tokenizer.convert_tokens_to_ids("[unused1]")
    small, small_tokenizer = loaded(save_trimmed(model, tokenizer, [QUERY], tmp_path / "small"))
    assert (tokenizer.cls_token_id, small_tokenizer.cls_token_id, small.config.bos_token_id) == (4, 3, 3)
    assert small_tokenizer.convert_ids_to_tokens(small.config.eos_token_id) == "[unused1]"  # kept because the configuration names it


def test_special_token_outside_the_models_vocabulary(encoders: dict[str, Path], tmp_path: Path) -> None:
    """As mDeBERTa is published: its sentencepiece model has no [MASK], whose id follows the pieces', and the embeddings have rows to spare."""
    from transformers import DebertaV2Tokenizer

    pieces = [("[PAD]", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[UNK]", 0.0), ("▁", -2.0), ("▁the", -3.0), ("▁wal", -3.0), ("a", -5.0), ("w", -6.0)]
    tokenizer = DebertaV2Tokenizer(vocab=pieces)
    assert tokenizer.mask_token_id == len(pieces)
    model, _ = loaded(encoders["mdeberta"])
    mask_row = model.get_input_embeddings().weight[len(pieces)].clone()
    small, small_tokenizer = loaded(save_trimmed(model, tokenizer, ["the a"], tmp_path / "small"))
    assert small_tokenizer.get_vocab() == {piece: at for at, (piece, _) in enumerate([*pieces[:6], *pieces[7:], ("[MASK]", 0.0)])}
    assert torch.equal(small.get_input_embeddings().weight[small_tokenizer.mask_token_id], mask_row)
    assert small_tokenizer.tokenize("the [MASK] q") == ["▁the", "[MASK]", "▁", "q"] and small_tokenizer("q")["input_ids"][2] == small_tokenizer.unk_token_id


def test_lower_case_and_accents(encoders: dict[str, Path], tmp_path: Path) -> None:
    """Pieces are counted as the tokenizer normalises them, so a text goes for all that it makes the same."""
    from transformers import BertTokenizer

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "elan", "wal", "e", "w", "##a", "##l", "##n"]
    tokenizer = BertTokenizer(vocab={piece: at for at, piece in enumerate(pieces)}, do_lower_case=True)
    _, small = loaded(save_trimmed(loaded(encoders["labse"])[0], tokenizer, ["ÉLAN"], tmp_path / "small"))
    assert "elan" in small.get_vocab() and "wal" not in small.get_vocab()
    for text in ("ÉLAN", "elan", "Élan e"):
        assert small.tokenize(text) == tokenizer.tokenize(text)
    assert (tokenizer.tokenize("Wál"), small.tokenize("Wál")) == (["wal"], ["w", "##a", "##l"])


def wordpiece(*pieces: str) -> dict[str, Any]:
    """The tokenizer.json of a WordPiece vocabulary that BERT's own post-processor frames, with padding and truncation."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocab = {piece: at for at, piece in enumerate(["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", *pieces])}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.Sequence([processors.BertProcessing(("[SEP]", 4), ("[CLS]", 3))])
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]", length=8)
    tokenizer.enable_truncation(6)
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    return content


def cut(tokenizer_json: dict[str, Any], text: str) -> list[str]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps(tokenizer_json))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return list(tokenizer.encode(text, add_special_tokens=False).tokens)


SINGLES = (*"abc", *(f"##{letter}" for letter in "abc"))
LONGER = ("ab", "abc", "ca", "##ab", "##bc", "##cab", "##ca")
WHOLE = wordpiece(*LONGER, *SINGLES)
WORDS = st.text("abc", min_size=1, max_size=12)


@given(st.lists(WORDS, min_size=1, max_size=4), WORDS)
@example(["abc"], "abcab")
def test_wordpiece_cuts_covered_words_as_before_and_knows_all_that_it_knew(texts: list[str], word: str) -> None:
    kept = kept_ids(WHOLE, pieces_used(WHOLE, texts))
    trimmed = trim_tokenizer(WHOLE, kept)
    pieces = set(trimmed["model"]["vocab"])
    assert pieces == {piece for piece, at in WHOLE["model"]["vocab"].items() if at in kept}
    for text in [*texts, " ".join(texts)]:
        assert cut(trimmed, text) == cut(WHOLE, text)
    before, after = cut(WHOLE, word), cut(trimmed, word)
    assert after == before or not set(before) <= pieces
    assert "[UNK]" not in after and "".join(piece.removeprefix("##") for piece in after) == word


def test_wordpiece_cuts_other_words_otherwise() -> None:
    """Not only the lost piece changes: a shorter one in its place moves all that follow."""
    trimmed = trim_tokenizer(WHOLE, kept_ids(WHOLE, pieces_used(WHOLE, ["ab acab"])))
    assert cut(WHOLE, "abcab") == ["abc", "##ab"]
    assert cut(trimmed, "abcab") == ["ab", "##cab"]
    lacking = wordpiece("quiz", "q", "u", "i", "##u", "##i", "##iz")  # no ##z
    trimmed = trim_tokenizer(lacking, kept_ids(lacking, pieces_used(lacking, ["qui"])))
    assert cut(lacking, "quiz") == ["quiz"] and cut(trimmed, "quiz") == ["[UNK]"]
    assert cut(trimmed, "quuu") == ["q", "##u", "##u", "##u"]


def test_wordpiece_file_is_renumbered() -> None:
    from tokenizers import Tokenizer

    long = "ab abc ca abab"  # more than the truncation leaves
    kept = kept_ids(WHOLE, pieces_used(WHOLE, [long]))
    trimmed = trim_tokenizer(WHOLE, kept)
    before, after = Tokenizer.from_str(json.dumps(WHOLE)), Tokenizer.from_str(json.dumps(trimmed))
    assert {"ab", "abc", "ca", "##ab"} <= set(trimmed["model"]["vocab"]) and "[unused1]" not in trimmed["model"]["vocab"]
    for texts in [("ab",), (long,), ("ab", "ca")]:
        assert [kept[number] for number in after.encode(*texts).ids] == before.encode(*texts).ids
    assert after.encode("ab").tokens == ["[CLS]", "ab", "[SEP]", *["[PAD]"] * 5]
    with pytest.raises(InputError, match="special token 0 is not among the kept pieces"):
        trim_tokenizer(WHOLE, kept[1:])


def test_unigram_cuts_covered_text_as_before(toy_model: Path) -> None:
    from tokenizers import Tokenizer

    whole = read(toy_model / "tokenizer.json")
    texts = ["the whale", "sleeping wal"]
    kept = kept_ids(whole, pieces_used(whole, texts))
    trimmed = trim_tokenizer(whole, kept)
    assert len(trimmed["model"]["vocab"]) < len(whole["model"]["vocab"])
    before, after = Tokenizer.from_str(json.dumps(whole)), Tokenizer.from_str(json.dumps(trimmed))
    for text in texts:
        assert before.encode(text).tokens == after.encode(text).tokens
        assert [kept[number] for number in after.encode(text).ids] == before.encode(text).ids
    pair = after.encode("the", "whale")
    assert [kept[number] for number in pair.ids] == before.encode("the", "whale").ids
    with pytest.raises(InputError, match="special token"):
        trim_tokenizer(whole, kept[5:])


def test_bytes_stay_where_they_spell_unknown_characters() -> None:
    from tokenizers import Tokenizer, models

    vocab = [("<unk>", 0.0), ("▁wal", -1.0), *((f"<0x{value:02X}>", -9.0) for value in range(256))]
    whole = json.loads(Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True)).to_str())
    assert kept_ids(whole, []) == [0, *range(2, 258)]
    whole["model"]["byte_fallback"] = False
    assert kept_ids(whole, []) == [0, 2]  # the lowest-scored


def test_script_pieces_are_those_written_wholly_in_a_script() -> None:
    vocab = [["<s>", 0.0], ["▁кит", -1.0], ["кto", -1.0], ["▁", -1.0], ["鲸", -1.0], ["12", -1.0]]
    unigram = {"model": {"type": "Unigram", "vocab": vocab}}
    assert pieces_in_scripts(unigram, ["CYRILLIC"]) == {1}
    assert pieces_in_scripts(unigram, ["CJK"]) == {4}
    assert pieces_in_scripts(wordpiece("кит", "##ит", "кto", "##"), ["cyrillic"]) == {5, 6}


def refused(*arguments: Any) -> str:
    with pytest.raises(InputError) as caught:
        save_trimmed(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_refusals(encoders: dict[str, Path], tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForMaskedLM, GPT2Config, GPT2Model, PreTrainedTokenizerFast

    model, tokenizer = loaded(encoders["labse"])
    out = tmp_path / "out"
    assert "no text to trim the vocabulary by" in refused(model, tokenizer, [" "], out)
    assert "test_vocabulary.py: there already; give a new folder" in refused(model, tokenizer, [QUERY], __file__)
    assert f"{tmp_path.parent}: there already" in refused(model, tokenizer, [QUERY], tmp_path.parent)
    assert "a BertForMaskedLM has a language-model head" in refused(AutoModelForMaskedLM.from_pretrained(encoders["mbert"]), tokenizer, [QUERY], out)
    assert "a gpt2 model cannot be trimmed" in refused(GPT2Model(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)), tokenizer, [QUERY], out)
    assert "ids up to 207, the embeddings have 111 rows" in refused(loaded(encoders["xlm-r"])[0], tokenizer, [QUERY], out)
    bpe = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0, "b": 1}, [])), pad_token="a")
    assert "a BPE tokenizer cannot be trimmed; only Unigram (XLM-R, mDeBERTa) and WordPiece ones (mBERT, LaBSE) can" in refused(model, bpe, ["ab"], out)
    model.config.bos_token_id = 999
    assert "the tokenizer lacks bos_token_id 999 of the model's config.json" in refused(model, tokenizer, [QUERY], out)
    assert not out.exists()


def test_padding_that_would_move_positions_is_refused(tmp_path: Path) -> None:
    """XLM-R's kin counts positions from the padding's id."""
    from transformers import PreTrainedTokenizerFast

    model, _ = loaded(build_checkpoint(tmp_path / "whole"))
    file = tmp_path / "other.json"
    shutil.copy(tmp_path / "whole" / "tokenizer.json", file)
    content = read(file)
    vocab = content["model"]["vocab"]
    vocab[1], vocab[-2] = ["▁unused", -4.0], ["<pad>", 0.0]
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "<pad>"]
    file.write_text(json.dumps(content), encoding="utf-8")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), unk_token="<unk>", pad_token="<pad>", cls_token="<s>", sep_token="</s>")
    model.config.pad_token_id = model.embeddings.padding_idx = tokenizer.pad_token_id
    assert "padding would move from id" in refused(model, tokenizer, [QUERY], tmp_path / "out")
