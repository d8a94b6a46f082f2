"""``auto`` takes bf16 only for checkpoints that rank in it as in fp32. What the processor lacks is emulated."""

import json
from pathlib import Path
from typing import Any

import pytest

from csrerank.errors import InputError
from csrerank.models import reranker
from csrerank.models.reranker import Reranker
from csrerank.models.settings import Settings


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where answers are kept, on a device that multiplies bf16 itself."""
    monkeypatch.setenv("CSRERANK_CACHE", str(tmp_path / "cache"))
    resolve = reranker.resolve_precision
    monkeypatch.setattr(reranker, "resolve_precision", lambda name, device: "bf16" if name == "auto" else resolve(name, device))
    return tmp_path / "cache" / "bf16"


def taken(folder: Path) -> str:
    return Reranker.load(folder, Settings(96, 30), "cpu").settings.precision


@pytest.fixture
def rounded_off(toy_model: Path, tmp_path: Path) -> Path:
    """The toy model with word embeddings so near to each other that eight bits do not tell them apart."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "near"
    folder.mkdir()
    for file in toy_model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    (name,) = (name for name in weights if name.endswith("embeddings.word_embeddings.weight"))
    common = torch.linspace(-1, 1, weights[name].shape[1])
    weights[name] = common + 1e-4 * weights[name] / weights[name].std()
    for other in ("position_embeddings", "token_type_embeddings"):
        (place,) = (place for place in weights if place.endswith(f"embeddings.{other}.weight"))
        weights[place] = torch.zeros_like(weights[place])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_auto_takes_bf16_where_the_ranking_holds_in_it(toy_model: Path, cache: Path) -> None:
    assert taken(toy_model) == "bf16"
    (kept,) = cache.iterdir()
    error, agreement = json.loads(kept.read_text())
    assert 0 < error < 0.1 and agreement > 0.95


def test_auto_takes_fp32_where_it_does_not(rounded_off: Path, cache: Path) -> None:
    assert taken(rounded_off) == "fp32"
    assert Reranker.load(rounded_off, Settings(96, 30, precision="bf16"), "cpu").settings.precision == "bf16"  # what is asked for is done
    assert taken(rounded_off) == "fp32" and len(list(cache.iterdir())) == 1


def test_the_answer_is_kept_and_a_damaged_one_is_found_out_again(toy_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from csrerank.models import calibration

    taken(toy_model)
    (kept,) = cache.iterdir()
    kept.write_text("[0.01, 0.5]")
    assert taken(toy_model) == "fp32"
    kept.write_text("what a full disk l")
    assert taken(toy_model) == "bf16" and len(json.loads(kept.read_text())) == 2
    monkeypatch.setattr(calibration, "demo_pairs", lambda: pytest.fail("it is known"))
    assert taken(toy_model) == "bf16"


def test_a_cache_that_cannot_be_written_is_no_hindrance(toy_model: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CSRERANK_CACHE", str(tmp_path / "file"))
    assert taken(toy_model) == "bf16"


def test_a_model_that_the_engine_does_not_serve_is_asked_too(tmp_path: Path, cache: Path) -> None:
    from toy.encoders import build_encoder

    from csrerank.models.backbones import load_backbone

    model, tokenizer = load_backbone(build_encoder(tmp_path / "mdeberta", "mdeberta"))
    found: Any = Reranker(model, tokenizer, Settings(48, 10), device="cpu")
    assert found.settings.precision == "bf16" and len(list(cache.iterdir())) == 1


def test_it_is_asked_of_the_weights_that_were_loaded(toy_model: Path, cache: Path) -> None:
    """What becomes of them later is not the checkpoint's."""
    import torch

    model = Reranker.load(toy_model, Settings(96, 30), "cpu")
    (kept,) = cache.iterdir()
    before = kept.read_text()
    with torch.no_grad():
        model.model.base_model.embeddings.word_embeddings.weight.zero_()
    model.score("why do whales sleep", ["a whale", "a stone"])
    assert kept.read_text() == before and len(list(cache.iterdir())) == 1


def test_a_worker_is_told_and_does_not_ask(toy_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from csrerank.integrations.worker import Spec, Worker

    told = Spec.of(str(toy_model), Reranker.load(toy_model, Settings(96, 30), "cpu"), torch.get_num_threads())
    assert told.settings.precision == "bf16"
    monkeypatch.setattr(reranker, "bf16_holds", lambda *_: pytest.fail("it was told"))
    assert Worker(told).ready() == ""


def test_too_little_memory_to_compare_is_one_line(toy_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: Any) -> bool:
        raise MemoryError

    monkeypatch.setattr(reranker, "bf16_holds", short)
    with pytest.raises(InputError, match="memory does not hold the model in fp32 beside bf16.*give --precision bf16 or fp32"):
        taken(toy_model)
    assert Reranker.load(toy_model, Settings(96, 30, precision="bf16"), "cpu").settings.precision == "bf16"


def test_without_a_home_directory_nothing_is_kept(toy_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from csrerank.models import calibration

    def homeless() -> Path:
        raise InputError("no home directory")

    monkeypatch.setattr(calibration, "cache_folder", homeless)
    assert taken(toy_model) == "bf16" and not cache.exists()


def test_tokenizers_written_in_python_have_a_fingerprint(tmp_path: Path) -> None:
    """PhoBERT's is one; models on a hub have no directory to be known by."""
    from toy.encoders import build_encoder
    from transformers import PhobertTokenizer

    from csrerank.models.backbones import load_backbone

    model, _ = load_backbone(build_encoder(tmp_path / "mbert", "mbert"))
    found = []
    for name, words in (("one", "a 9\nb 9\nc 9\nstone 3\n"), ("two", "a 9\nb 9\nc 9\nnight 3\n")):
        (tmp_path / name).write_text(words)
        (tmp_path / "merges").write_text("w h 9\n")
        found.append(Reranker(model, PhobertTokenizer(str(tmp_path / name), str(tmp_path / "merges")), Settings(48, 10), "cpu").fingerprint)
    assert len(set(found)) == 2 and all(len(one) == 64 for one in found)
