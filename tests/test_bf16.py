"""``auto`` takes bf16 only for checkpoints that rank in it as in fp32. What the processor lacks is emulated."""

import json
from pathlib import Path
from typing import Any

import pytest

from csrerank.models import reranker
from csrerank.models.reranker import Reranker
from csrerank.models.settings import Settings


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where answers are kept, on a device that multiplies bf16 itself."""
    monkeypatch.setenv("CSRERANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(reranker, "resolve_precision", lambda *_: "bf16")
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
