"""Backbones: any encoder of four families becomes a cross-encoder of a stock class, mean pooling is one more stock layer, and models are compared."""

import json
import os
import pickle
import shlex
import shutil
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from safetensors.torch import load_file
from toy import build_checkpoint
from toy.encoders import ENCODERS, POSITIONS, build_encoder

from csrerank.cli import cli as root
from csrerank.cli import run_command
from csrerank.commands.models import compare_command
from csrerank.errors import InputError
from csrerank.languages import DEMO
from csrerank.models.backbones import MEAN_WEIGHT, load_backbone
from csrerank.models.batching import Encoded, PairEncoder
from csrerank.models.checkpoint import directory_hash, position_limit
from csrerank.models.compare import Comparison, compare, demo_texts, pieces_per_word, read_texts, shown
from csrerank.models.reranker import Reranker
from csrerank.models.settings import Settings

QUERY, DOCUMENT = "the whale", "sleeping кит"
EVERY = pytest.mark.parametrize("kind", ENCODERS)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: build_encoder(tmp_path_factory.mktemp(kind), kind) for kind in ENCODERS}


def saved(model: Any, tokenizer: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def with_config(source: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
    return folder


def batch(tokenizer: Any) -> dict[str, torch.Tensor]:
    return tokenizer([QUERY, "a"], [DOCUMENT + " sleeping whales", "b"], padding=True, return_tensors="pt")


def layer_states(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """States before and after the last layer."""
    with torch.no_grad():
        states = model.eval().base_model(**inputs, output_hidden_states=True).hidden_states
    return states[-2], states[-1]


def assert_pools_mean(model: Any, inputs: dict[str, torch.Tensor]) -> None:
    before, after = layer_states(model, inputs)
    for row, mask in enumerate(inputs["attention_mask"].bool()):
        mixed = before[row, 0] + MEAN_WEIGHT * before[row, mask].mean(0)
        expected = (mixed - mixed.mean()) / mixed.std(correction=0)
        torch.testing.assert_close(after[row, 0], expected, atol=1e-4, rtol=0)


@EVERY
def test_mean_layer_is_the_mean(kind: str, encoders: dict[str, Path]) -> None:
    model, tokenizer = load_backbone(encoders[kind], "mean")
    inputs = batch(tokenizer)
    assert not inputs["attention_mask"].all()  # there is padding, which must not count
    assert model.config.num_hidden_layers == len(model.base_model.encoder.layer) == 4
    for attention in ["eager"] if kind == "mdeberta" else ["eager", "sdpa"]:
        model.set_attn_implementation(attention)
        assert_pools_mean(model, inputs)


@pytest.mark.parametrize("positions", [["c2p"], ["p2c"], ["p2c", "c2p"]])
def test_mean_layer_with_position_projections_of_their_own(positions: list[str], encoders: dict[str, Path], tmp_path: Path) -> None:
    """DeBERTa without ``share_att_key`` projects positions by matrices of their own."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(encoders["mdeberta"], share_att_key=False, pos_att_type=positions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        encoder = AutoModel.from_config(config)
    saved(encoder, AutoTokenizer.from_pretrained(encoders["mdeberta"]), tmp_path)
    model, tokenizer = load_backbone(tmp_path, "mean")
    assert_pools_mean(model, batch(tokenizer))


@EVERY
def test_mean_layer_trains_and_stays_the_mean(kind: str, encoders: dict[str, Path]) -> None:
    model, tokenizer = load_backbone(encoders[kind], "mean")
    model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):  # the intermediate matrix gets a gradient once the one behind it is not 0
        optimizer.zero_grad()
        model(**batch(tokenizer)).logits.pow(2).sum().backward()
        optimizer.step()
    layer = model.base_model.encoder.layer[-1]
    for name, weight in layer.named_parameters():
        still = any(part in name for part in ("query", "key", "pos_"))
        assert (weight.grad.abs().max() == 0) == still, name
        assert not still or not weight.any(), name
    assert all(weight.requires_grad for weight in model.parameters())


@EVERY
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_saved_directory_is_plain_transformers(kind: str, pooling: Any, encoders: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer = load_backbone(encoders[kind], pooling, layers=(0, 2))
    saved(model, tokenizer, tmp_path)
    again, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert again.config.csrerank == {"pooling": pooling, "layers": [0, 2]}
    assert again.config.num_labels == 1
    assert again.config.num_hidden_layers == (3 if pooling == "mean" else 2)
    assert type(again).__module__.startswith("transformers.models.")
    inputs = batch(AutoTokenizer.from_pretrained(tmp_path))
    with torch.no_grad():
        plain = again.eval()(**inputs).logits
        torch.testing.assert_close(plain, model.eval()(**inputs).logits, atol=1e-6, rtol=0)
    reranker = Reranker.load(tmp_path, Settings(max_length=64, query_tokens=16, precision="fp32"))
    scores = reranker.score_pairs([QUERY, "a"], [DOCUMENT + " sleeping whales", "b"])
    torch.testing.assert_close(torch.from_numpy(scores), plain[:, 0], atol=1e-5, rtol=0)
    assert len(set(scores)) == 2


@EVERY
def test_special_tokens_types_and_limit(kind: str, encoders: dict[str, Path]) -> None:
    _, template, typed = ENCODERS[kind]
    model, tokenizer = load_backbone(encoders[kind])
    assert model.config.model_type == ENCODERS[kind][0]
    pair = PairEncoder(tokenizer, 64, 16)
    query, document = ([*tokenizer.tokenize(text)] for text in (QUERY, DOCUMENT))
    (encoded,), _ = pair.encode([QUERY], [DOCUMENT])
    assert tokenizer.convert_ids_to_tokens(encoded.ids) == template.format(q=" ".join(query), d=" ".join(document)).split()
    assert encoded.ids[encoded.split :] == tokenizer.convert_tokens_to_ids([*document, template.split()[-1]])
    assert pair.uses_types == typed
    if typed:
        types = tokenizer(QUERY, DOCUMENT)["token_type_ids"]
        assert types == [0] * encoded.split + [1] * (len(encoded.ids) - encoded.split)
    limit = POSITIONS - 2 if kind == "xlm-r" else POSITIONS
    assert position_limit(model, tokenizer) == tokenizer.model_max_length == limit
    full = torch.full((1, limit), tokenizer.convert_tokens_to_ids("e"))
    assert model.eval()(full).logits.isfinite().all()
    if kind != "mdeberta":  # relative positions run on; the others' tables end
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.cat([full, full[:, :1]], 1))


@pytest.mark.parametrize("kind", ["mbert", "labse"])
def test_types_reach_bert(kind: str, encoders: dict[str, Path]) -> None:
    model, tokenizer = load_backbone(encoders[kind])
    inputs = tokenizer(QUERY, DOCUMENT, return_tensors="pt")
    typed = model.eval()(**inputs).logits
    del inputs["token_type_ids"]
    assert (typed - model(**inputs).logits).abs().item() > 1e-3


def test_single_type_row_is_not_asked_for_types(tmp_path: Path, encoders: dict[str, Path]) -> None:
    """A tokenizer that says it gives types (as older releases wrote for plain fast ones), beside XLM-R's one row of them."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    shutil.copytree(encoders["xlm-r"], tmp_path / "plain")
    file = str(encoders["xlm-r"] / "tokenizer.json")
    PreTrainedTokenizerFast(
        tokenizer_file=file, cls_token="<s>", sep_token="</s>", unk_token="<unk>", pad_token="<pad>",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(tmp_path / "plain")  # fmt: skip
    assert "token_type_ids" in AutoTokenizer.from_pretrained(tmp_path / "plain")(QUERY)
    saved(*load_backbone(tmp_path / "plain"), tmp_path / "saved")
    reranker = Reranker.load(tmp_path / "saved", Settings(max_length=64, query_tokens=16))
    assert not reranker.encoder.uses_types
    assert reranker.score(QUERY, [DOCUMENT]).shape == (1,)


@pytest.mark.parametrize(("kind", "kept"), [("mbert", True), ("labse", True), ("mminilm", False)])
def test_pooler(kind: str, kept: bool, encoders: dict[str, Path]) -> None:
    weights = load_file(encoders[kind] / "model.safetensors")
    source = next((value for name, value in weights.items() if name.endswith("pooler.dense.weight")), None)
    assert (source is not None) == kept
    first, _ = load_backbone(encoders[kind], seed=1)
    other, _ = load_backbone(encoders[kind], seed=2)
    assert torch.equal(first.bert.pooler.dense.weight, other.bert.pooler.dense.weight) == kept
    assert source is None or torch.equal(first.bert.pooler.dense.weight, source)
    mean, _ = load_backbone(encoders[kind], "mean")
    assert source is None or not torch.equal(mean.bert.pooler.dense.weight, source)


def head(model: Any) -> torch.Tensor:
    return torch.cat([value.flatten() for name, value in model.state_dict().items() if not name.startswith(model.base_model_prefix)])


@EVERY
def test_head_is_seeded_and_random_state_stays(kind: str, encoders: dict[str, Path]) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, _ = load_backbone(encoders[kind], "mean", seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(6)
    again, _ = load_backbone(encoders[kind], "mean", seed=3)
    other, _ = load_backbone(encoders[kind], "mean", seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(head(first), head(other))
    drawn, other_drawn = (model.base_model.encoder.layer[-1].intermediate.dense.weight for model in (first, other))
    assert not torch.equal(drawn, other_drawn)
    spread = head(first)[head(first) != 0].std().item()
    assert spread == pytest.approx(first.config.initializer_range, rel=0.1)


@EVERY
def test_dropout_on_all_but_attention(kind: str, encoders: dict[str, Path]) -> None:
    for rate in (0.0, 0.2):
        model, _ = load_backbone(encoders[kind], dropout=rate)
        rates = {name: module.p for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)}
        assert {rates[name] for name in rates if name.endswith("attention.self.dropout")} == {0.0}
        assert {rates[name] for name in rates if name.endswith("output.dropout")} == {rate}
        assert (model.config.hidden_dropout_prob, model.config.attention_probs_dropout_prob) == (rate, 0.0)


@EVERY
def test_layers_kept(kind: str, encoders: dict[str, Path]) -> None:
    whole, _ = load_backbone(encoders[kind])
    some, _ = load_backbone(encoders[kind], layers=(0, 2))
    for kept, layer in zip((0, 2), some.base_model.encoder.layer, strict=True):
        expected = whole.base_model.encoder.layer[kept].state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in layer.state_dict().items())
    assert some.config.num_hidden_layers == 2


def test_cross_encoder_gets_a_fresh_head_and_its_mean_layer_is_head(tmp_path: Path, encoders: dict[str, Path]) -> None:
    folded = saved(*load_backbone(encoders["xlm-r"], "mean"), tmp_path / "folded")
    model, _ = load_backbone(folded, "mean", seed=2)
    assert model.config.num_hidden_layers == 4
    assert model.config.csrerank == {"pooling": "mean", "layers": [0, 1, 2]}
    first, _ = load_backbone(folded, "first")
    assert first.config.num_hidden_layers == 3
    with pytest.raises(InputError, match="layers 0 to 2"):
        load_backbone(folded, layers=(0, 3))
    three = build_checkpoint(tmp_path / "three", labels=3)
    model, _ = load_backbone(three)
    assert model.config.num_labels == 1
    assert model.classifier.out_proj.weight.shape == (1, 32)


@pytest.mark.parametrize("layers", [(3,), (-1,), (), (1, 0), (1, 1)])
def test_layers_refused(layers: tuple[int, ...], encoders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="of an encoder with layers 0 to 2; give some of these in rising order"):
        load_backbone(encoders["labse"], layers=layers)


def refused(source: object, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_backbone(source, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_refusals(encoders: dict[str, Path], tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

    assert "unknown pooling 'max'; known are first mean" in refused(encoders["labse"], pooling="max")
    assert "no such model; give 'default', a directory, or a hub name" in refused(tmp_path / "nowhere")
    GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)).save_pretrained(tmp_path / "gpt")
    assert "gpt: a gpt2 checkpoint (GPT2LMHeadModel), where an encoder of bert, deberta-v2, roberta, xlm-roberta is needed" in refused(tmp_path / "gpt")
    T5ForConditionalGeneration(T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=1)).save_pretrained(tmp_path / "t5")
    assert "a t5 checkpoint (T5ForConditionalGeneration), where an encoder" in refused(tmp_path / "t5")
    assert "a bert set up as a decoder (BertModel)" in refused(with_config(encoders["labse"], tmp_path / "decoder", is_decoder=True))
    deeper = refused(with_config(encoders["labse"], tmp_path / "deeper", num_hidden_layers=4))
    assert "16 of the encoder's weights are missing or have another shape than config.json says (bert.encoder.layer.3.attention.output" in deeper
    wider = refused(with_config(encoders["labse"], tmp_path / "wider", vocab_size=500))
    assert "1 of the encoder's weights are missing or have another shape than config.json says (bert.embeddings.word_embeddings.weight)" in wider
    shallower = refused(with_config(encoders["mbert"], tmp_path / "shallower", num_hidden_layers=2))
    assert "holds bert.encoder.layer.2.attention.output.LayerNorm.bias, of a layer that config.json does not count" in shallower
    assert "cannot be loaded as an encoder" in refused(with_config(encoders["labse"], tmp_path / "unknown", model_type="unheard-of"))


def test_files_refused(encoders: dict[str, Path], tmp_path: Path) -> None:
    damaged = with_config(encoders["mbert"], tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes((damaged / "model.safetensors").read_bytes()[:1000])
    assert "cannot be loaded as an encoder" in refused(damaged)
    bare = with_config(encoders["mbert"], tmp_path / "bare")
    for file in bare.glob("tokenizer*"):
        file.unlink()
    assert "its tokenizer has special tokens only; put tokenizer.json" in refused(bare)


def pickled(source: Path, folder: Path, content: Any = None, **options: Any) -> Path:
    """The checkpoint with its weights, or ``content``, in a pickle alone."""
    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights if content is None else content, folder / "pytorch_model.bin", **options)
    return folder


def assert_same_weights(model: Any, other: Any) -> None:
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


@EVERY
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_weights_are_read_and_never_written(kind: str, zipped: bool, encoders: dict[str, Path], tmp_path: Path) -> None:
    source = pickled(encoders[kind], tmp_path / "pickled", _use_new_zipfile_serialization=zipped)
    model, tokenizer = load_backbone(source)
    assert_same_weights(model, load_backbone(encoders[kind])[0])
    folder = saved(model, tokenizer, tmp_path / "saved")
    assert (folder / "model.safetensors").exists() and not list(folder.glob("*.bin"))


def test_pickled_shards_of_old_names(encoders: dict[str, Path], tmp_path: Path) -> None:
    """As published for mBERT: norms have gamma and beta. Shards are found by their index."""
    source = pickled(encoders["mbert"], tmp_path / "pickled")
    weights = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in load_file(encoders["mbert"] / "model.safetensors").items()
    }
    (source / "pytorch_model.bin").unlink()
    shards = {name: f"part-{at % 2}.bin" for at, name in enumerate(weights)}
    for shard in set(shards.values()):
        torch.save({name: value for name, value in weights.items() if shards[name] == shard}, source / shard)
    (source / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}), encoding="utf-8")
    assert_same_weights(load_backbone(source)[0], load_backbone(encoders["mbert"])[0])
    before = directory_hash(source)
    torch.save({}, source / "part-1.bin")
    assert directory_hash(source) != before


class Planted:
    """What a malicious checkpoint holds: unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {shlex.quote(str(self.marker))}",)


@pytest.mark.parametrize("form", ["zip", "old", "bare"])
def test_malicious_pickle_is_refused_and_does_not_run(
    form: str, encoders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    marker = tmp_path / "made"
    content = load_file(encoders["mbert"] / "model.safetensors") | {"planted": Planted(marker)}
    source = pickled(encoders["mbert"], tmp_path / "pickled", content, _use_new_zipfile_serialization=form == "zip")
    file = source / "pytorch_model.bin"
    if form == "bare":
        file.write_bytes(pickle.dumps(Planted(marker)))
        pickle.loads(file.read_bytes())
    else:
        torch.load(file, weights_only=False)
    assert marker.exists()  # it does harm where it is read without care
    marker.unlink()
    recwarn.clear()
    message = refused(source)
    assert "its weights are no pickle of tensors alone" in message and message.endswith(
        "is not read; fetch them again if they should be, or give them as model.safetensors"
    )
    assert form == "bare" or "(it asks for posix.system)" in message
    assert command(source, "--seconds", 0) == 2
    said = capsys.readouterr()
    assert said.err == f"Error: {message}\n" and said.out == ""
    assert not marker.exists() and not recwarn.list


def test_other_pickles_refused(encoders: dict[str, Path], tmp_path: Path) -> None:
    source = pickled(encoders["mbert"], tmp_path / "pickled")
    file = source / "pytorch_model.bin"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(file))  # code by itself
    assert "its weights are no pickle of tensors alone; any other may run code" in refused(source)
    file.write_bytes(b"nothing of the kind")
    assert "its weights are no pickle of tensors alone; any other may run code" in refused(source)
    for content in ([torch.ones(2)], {"epoch": 1}, {"model": {}}):
        torch.save(content, file)
        assert "cannot be loaded as an encoder" in (message := refused(source)) or "of the encoder's weights are missing" in message
    torch.save(load_file(encoders["mbert"] / "model.safetensors"), file)
    file.write_bytes(file.read_bytes()[:2000])
    assert "cannot be loaded as an encoder" in refused(source)
    file.write_bytes(b"")
    assert "cannot be loaded as an encoder" in refused(source)


def test_pickle_beside_safetensors_is_not_read(encoders: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "both"
    shutil.copytree(encoders["mbert"], source)
    before = directory_hash(source)
    (source / "pytorch_model.bin").write_bytes(pickle.dumps(Planted(tmp_path / "made")))
    assert_same_weights(load_backbone(source)[0], load_backbone(encoders["mbert"])[0])
    assert not (tmp_path / "made").exists() and directory_hash(source) == before


def test_pickled_weights_count_for_the_hash(encoders: dict[str, Path], tmp_path: Path) -> None:
    source = pickled(encoders["mbert"], tmp_path / "pickled")
    before = directory_hash(source)
    weights = load_file(encoders["mbert"] / "model.safetensors")
    torch.save(weights | {"bert.pooler.dense.bias": weights["bert.pooler.dense.bias"] + 1}, source / "pytorch_model.bin")
    assert directory_hash(source) != before


def test_pickle_needs_a_torch_that_reads_it_safely(encoders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.torch_version import TorchVersion

    source = pickled(encoders["mbert"], tmp_path / "pickled")
    for version, fine in (("2.10.0+cpu", True), ("2.9.1+cpu", False)):
        monkeypatch.setattr(torch, "__version__", TorchVersion(version))
        if fine:
            load_backbone(source)
    assert "weights in pytorch_model.bin only, a pickle, which torch reads safely from 2.10 on; update torch, or give model.safetensors" in refused(source)
    load_backbone(encoders["mbert"])


@pytest.mark.parametrize("before", [None, "0"])
def test_hub_is_not_asked_to_convert(before: str | None, encoders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForSequenceClassification

    name, during = "DISABLE_SAFETENSORS_CONVERSION", []
    monkeypatch.delenv(name, raising=False) if before is None else monkeypatch.setenv(name, before)
    load = AutoModelForSequenceClassification.from_pretrained
    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", lambda *given, **more: during.append(os.environ[name]) or load(*given, **more))
    load_backbone(encoders["mbert"])
    assert during == ["1"] and os.environ.get(name) == before


def test_tokenizer_refused(encoders: dict[str, Path], tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    padless = with_config(encoders["xlm-r"], tmp_path / "padless")
    PreTrainedTokenizerFast(tokenizer_file=str(padless / "tokenizer.json"), cls_token="<s>").save_pretrained(padless)
    assert "its tokenizer has no padding token; name one as pad_token" in refused(padless)
    other = with_config(encoders["xlm-r"], tmp_path / "other")
    for file in encoders["labse"].glob("tokenizer*"):
        shutil.copy(file, other)
    assert "its tokenizer gives ids up to 207, its embeddings have 111 rows" in refused(other)


ROW = Comparison("m", 2_500_000, 500_000, 4, 32, 99, 12.34, 64, "fp32", "cpu, 1 threads", {"en": 1.5, "zh": 0.75}, 0.0025)


def test_compare_counts(encoders: dict[str, Path], toy_model: Path) -> None:
    names = [str(encoders["xlm-r"]), str(encoders["mdeberta"]), str(toy_model)]
    rows = list(compare(names, {"en": ["the whale", "sleeping"], "zh": ["你 好"]}, tokens=32, seconds=0, precision="fp32", device="cpu"))
    assert [row.name for row in rows] == names
    assert [(row.layers, row.hidden, row.vocabulary) for row in rows] == [(3, 32, 111), (3, 32, 111), (2, 32, 111)]
    # Of a layer: four squares with bias, the two feed-forward matrices with bias, two norms; then the norm of the embeddings and the head.
    layer = 4 * (32 * 32 + 32) + (32 * 64 + 64) + (64 * 32 + 32) + 4 * 32
    top = 2 * 32 + (32 * 32 + 32) + (32 + 1)
    assert rows[0].without_embeddings == 3 * layer + top
    assert rows[0].parameters == rows[0].without_embeddings + (111 + POSITIONS + 1) * 32
    assert rows[1].without_embeddings == 3 * layer + top + 2 * 32  # the norm of the relative positions
    assert rows[1].parameters == rows[1].without_embeddings + (111 + 2 * 16) * 32
    assert rows[2].without_embeddings == 2 * layer + top
    assert all(row.pairs_per_second > 0 and (row.tokens, row.precision) == (32, "fp32") and row.device.startswith("cpu, ") for row in rows)
    assert rows[0].pieces == {"en": 4 / 3, "zh": 4 / 2}  # the, whale, sleep+ing; a word mark before each character
    assert rows[0].unknown == 0


def test_compare_times_every_pair(encoders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Full inputs, none of them twice: twins are scored once, and the speed would be that of one pair."""
    computed: list[list[list[int]]] = []
    forward = Reranker._forward

    def recording(self: Reranker, inputs: list[Encoded], *more: Any) -> Any:
        computed.append([row.ids for row in inputs])
        return forward(self, inputs, *more)

    monkeypatch.setattr(Reranker, "_forward", recording)
    list(compare([str(encoders["xlm-r"])], {"en": ["the whale"]}, tokens=32, seconds=0, device="cpu"))
    assert computed and all(len(inputs) == 16 and {len(ids) for ids in inputs} == {32} for inputs in computed)


def test_compare_does_not_count_a_mean_layer_away(encoders: dict[str, Path], tmp_path: Path) -> None:
    folded = saved(*load_backbone(encoders["labse"], "mean"), tmp_path)
    (row,) = compare([str(folded)], {"en": ["the whale"]}, tokens=16, seconds=0)
    assert row.layers == 4


def test_pieces_per_word(encoders: dict[str, Path]) -> None:
    _, tokenizer = load_backbone(encoders["mbert"])
    assert pieces_per_word(tokenizer, ["the whale sleeping"], "en") == (4 / 3, 0)
    assert pieces_per_word(tokenizer, ["the ∞"], "en") == (1, 0.5)
    assert pieces_per_word(tokenizer, ["你好 鲸"], "zh") == (1, 0)
    assert pieces_per_word(tokenizer, ["the"] * 3, "th") == (1 / 3, 0)


def test_shown() -> None:
    table = shown([ROW])
    assert table.splitlines()[1].split() == ["m", "2.5", "M", "0.5", "M", "4", "32", "99", "12.3", "1.50", "0.75", "0.25%"]
    assert table.splitlines()[2] == "pairs/s: 64 tokens a pair, fp32, cpu, 1 threads; en zh: pieces a word (zh, ja, th: a character)"
    heading, line = shown([ROW], "tsv").splitlines()
    assert dict(zip(heading.split("\t"), line.split("\t"), strict=True)) == {
        "name": "m", "parameters": "2500000", "without_embeddings": "500000", "layers": "4", "hidden": "32", "vocabulary": "99", "pairs_per_second": "12.34",
        "tokens": "64", "precision": "fp32", "device": "cpu, 1 threads", "unknown": "0.0025", "pieces_en": "1.5", "pieces_zh": "0.75",
    }  # fmt: skip
    assert json.loads(shown([ROW], "json")) == [ROW._asdict()]
    with pytest.raises(InputError, match="unknown format 'xml'; known are table tsv json"):
        shown([ROW], "xml")


def test_texts(tmp_path: Path) -> None:
    assert tuple(demo_texts()) == DEMO
    (tmp_path / "de.txt").write_text("der Wal\n\nschläft\n", encoding="utf-8")
    assert read_texts([f"de={tmp_path}/de.txt"]) == {"de": ["der Wal", "schläft"]}


def command(*arguments: object) -> int:
    group = root.commands["models"]
    assert isinstance(group, click.Group)
    group.add_command(compare_command)
    with pytest.raises(SystemExit) as end:
        run_command(["models", "compare", *map(str, arguments)])
    return int(end.value.code or 0)


def test_command(encoders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("the whale\n", encoding="utf-8")
    given = ("--text", f"en={tmp_path}/text", "--seconds", 0, "--tokens", 16, "--precision", "fp32", "--device", "cpu")
    assert command(encoders["labse"], *given, "--format", "json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["tokens"], row["pieces"]) == (str(encoders["labse"]), 16, {"en": 1.0})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{labse}", "--tokens", "131"], "--tokens 131: {labse} takes 130; give 16 to 130"),
        (["{labse}", "--text", "de"], "--text de: give a language and a file, as de=FILE"),
        (["{labse}", "--text", "de={text}", "--text", "de={text}"], "--text de={text}: de is given twice; join the files"),
        (["{labse}", "--text", "de={text}.none"], "{text}.none: no such file; check the path"),
        (["./none"], "./none: no such model; give 'default', a directory, or a hub name like owner/name"),
    ],
)
def test_command_refuses(arguments: list[str], message: str, encoders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text"
    text.write_text("the whale\n", encoding="utf-8")
    places = {"labse": str(encoders["labse"]), "text": str(text)}
    assert command(*(part.format(**places) for part in arguments)) == 2
    assert capsys.readouterr().err == f"Error: {message.format(**places)}\n"


def test_command_refuses_a_device(encoders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(encoders["labse"], "--device", "foo") == 2
    said = capsys.readouterr()
    assert said.err.startswith("Error: --device foo: torch has no such device here (") and said.err.count("\n") == 1 and said.out == ""


def test_compare_refuses_nothing() -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        list(compare([], {"en": ["a"]}))
    with pytest.raises(InputError, match="de: no text; give some with --text de=FILE"):
        list(compare(["default"], {"de": [" "]}))
