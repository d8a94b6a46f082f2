"""The engine that scores without padding, held to the models' own code."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csrerank.models import engine as engines
from csrerank.models.batching import Encoded
from csrerank.models.engine import FAMILIES, Engine
from csrerank.models.layout import laid_out

# Lengths that repeat and lengths that do not, queries and passages cut, an empty passage.
QUERIES = ["the whale", "mountains sleep", "why do whales sleep in the night and not in the day", "stone"] * 5
PASSAGES = ["whale <pad> sleep", "12 mountains and a whale", "", "stone " * 60, "the night"] * 4


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from toy.encoders import build_encoder

    folder = tmp_path_factory.mktemp("encoders")
    return {kind: build_encoder(folder / kind, kind) for kind in ("xlm-r", "mbert", "mminilm", "mdeberta")}


def scores(directory: Path, precision: str, engine: bool, pooling: str = "mean", layers: Any = None, labels: int = 1) -> np.ndarray:
    import torch

    from csrerank.models.backbones import load_backbone
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings

    model, tokenizer = load_backbone(directory, pooling, layers)  # type: ignore[arg-type]
    if labels == 2:
        head = model.classifier.out_proj if hasattr(model.classifier, "out_proj") else model.classifier
        wider = torch.nn.Linear(head.in_features, 2)
        torch.nn.init.normal_(wider.weight, generator=torch.Generator().manual_seed(5))
        torch.nn.init.zeros_(wider.bias)
        if head is model.classifier:
            model.classifier = wider
        else:
            model.classifier.out_proj = wider
    # Trained weights are no longer the mean's zeros.
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weights in model.base_model.encoder.parameters():
            weights.add_(0.05 * torch.randn(weights.shape, generator=generator))
    reranker = Reranker(model, tokenizer, Settings(48, 10, batch_tokens=200, precision=precision), device="cpu")
    if not engine:
        reranker._computing = lambda precision: lambda rows: reranker._padded_logits(rows, precision)  # type: ignore[method-assign]
    return reranker.score_pairs(QUERIES, PASSAGES)


@pytest.mark.parametrize("kind", ["xlm-r", "mbert", "mminilm"])
@pytest.mark.parametrize(("pooling", "layers", "labels"), [("first", None, 1), ("mean", None, 1), ("first", (0,), 1), ("first", None, 2)])
def test_the_engine_gives_the_models_scores(kind: str, pooling: str, layers: Any, labels: int, encoders: dict[str, Path]) -> None:
    own, ours = (scores(encoders[kind], "fp32", engine, pooling, layers, labels) for engine in (False, True))
    assert np.ptp(own) > 0.05  # there is something to get wrong
    assert np.abs(own - ours).max() <= 1e-4


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention takes a batch at once, padded, on whatever device."""
    monkeypatch.setattr(engines, "laid_out", lambda *arguments: laid_out(*arguments[:-1], True))


@pytest.mark.parametrize("kind", ["xlm-r", "mbert"])
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_a_batch_at_once_gives_the_same_scores(kind: str, pooling: str, encoders: dict[str, Path], as_on_a_gpu: None) -> None:
    own, ours = (scores(encoders[kind], "fp32", engine, pooling) for engine in (False, True))
    assert np.abs(own - ours).max() <= 1e-4


def test_a_batch_at_once_gives_the_same_means(encoders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from csrerank.models.backbones import load_backbone
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings

    reranker = Reranker(*load_backbone(encoders["mbert"]), Settings(48, 10, batch_tokens=200, precision="fp32"), device="cpu")
    apart = reranker.means(QUERIES, PASSAGES, 1)
    monkeypatch.setattr(engines, "laid_out", lambda *arguments: laid_out(*arguments[:-1], True))
    assert np.abs(reranker.means(QUERIES, PASSAGES, 1) - apart).max() <= 1e-5


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize("kind", ["xlm-r", "mbert"])
def test_a_batch_stays_on_its_device(kind: str, pools: bool, bf16: bool, encoders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is here: torch's fake tensors, which hold no numbers but refuse to be joined with those of another device, stand for one."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AutoConfig, AutoModelForSequenceClassification

    monkeypatch.setattr(engines, "state_of", lambda model: [])
    monkeypatch.setattr(engines, "_averages", lambda layer: pools)
    looked_up = []
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(encoders[kind], num_labels=1)).eval()
    for name in ("word_embeddings", "token_type_embeddings", "position_embeddings"):
        getattr(model.base_model.embeddings, name).register_forward_pre_hook(lambda module, given: looked_up.append(given[0].device.type))
    with torch.inference_mode(), FakeTensorMode(allow_non_fake_inputs=True):
        engine = Engine(model, bf16, kind == "mbert")
        for inputs in ([Encoded([0, 5, 2, 2, 6, 7, 2], 4), Encoded([0, 2, 2, 6, 2], 3)], [Encoded([0, 5, 2, 2, 2], 4)] * 3):
            for found, columns in ((engine.logits(inputs), 1), (engine.means(inputs, 1), model.config.hidden_size)):
                assert (found.device.type, found.dtype, tuple(found.shape)) == ("meta", torch.float32, (len(inputs), columns))
    assert looked_up == ["meta"] * 12  # which lookups alone would not refuse


@pytest.mark.parametrize("kind", ["xlm-r", "mbert"])
def test_bf16_is_as_near_as_the_models_own(kind: str, encoders: dict[str, Path]) -> None:
    exact = scores(encoders[kind], "fp32", True)
    errors = [np.abs(scores(encoders[kind], "bf16", engine) - exact).max() for engine in (False, True)]
    assert 0 < errors[1] <= 3 * errors[0], errors


def test_it_serves_what_it_computes(encoders: dict[str, Path]) -> None:
    from csrerank.models.backbones import load_backbone

    served = {kind: Engine.serves(load_backbone(directory)[0]) for kind, directory in encoders.items()}
    assert served == {"xlm-r": True, "mbert": True, "mminilm": True, "mdeberta": False} and "deberta-v2" not in FAMILIES
    model, _ = load_backbone(encoders["mbert"])
    model.config.is_decoder = True
    assert not Engine.serves(model)


def test_it_leaves_other_models_to_their_own_code(encoders: dict[str, Path]) -> None:
    import torch

    from csrerank.models.backbones import load_backbone

    class Adapted(torch.nn.Linear):
        """Stands for an adapter's layer, which adds to the product."""

    model, _ = load_backbone(encoders["xlm-r"])
    assert Engine.serves(model) and not Engine.serves(model.bfloat16())
    model, _ = load_backbone(encoders["xlm-r"])
    hidden = model.config.hidden_size
    model.base_model.encoder.layer[0].attention.self.value = Adapted(hidden, hidden)
    assert not Engine.serves(model)


def test_weights_that_change_are_seen(encoders: dict[str, Path]) -> None:
    import torch

    from csrerank.models.backbones import load_backbone
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings

    model, tokenizer = load_backbone(encoders["xlm-r"])
    reranker = Reranker(model, tokenizer, Settings(48, 10, precision="fp32"), device="cpu")
    before = reranker.score_pairs(QUERIES, PASSAGES)
    with torch.no_grad():
        model.base_model.encoder.layer[0].output.dense.weight.mul_(0.5)
    after = reranker.score_pairs(QUERIES, PASSAGES)
    again = Reranker(model, tokenizer, Settings(48, 10, precision="fp32"), device="cpu").score_pairs(QUERIES, PASSAGES)
    assert np.array_equal(after, again) and not np.allclose(before, after)


@pytest.mark.parametrize(("kind", "engine"), [("xlm-r", True), ("mbert", True), ("mbert", False), ("mdeberta", False)])
def test_the_head_is_in_fp32_under_bf16(kind: str, engine: bool, encoders: dict[str, Path]) -> None:
    """In the engine, and in the models' own code; BERT's pooler is a part of it."""
    import torch

    from csrerank.models.backbones import load_backbone
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings

    model, tokenizer = load_backbone(encoders[kind])
    kinds = set()
    heads = [model.classifier.out_proj if hasattr(model.classifier, "out_proj") else model.classifier]
    heads += [model.base_model.pooler.dense] if kind == "mbert" else []
    for head in heads:
        head.register_forward_hook(lambda module, inputs, output: kinds.add((module, inputs[0].dtype, output.dtype)))
    reranker = Reranker(model, tokenizer, Settings(48, 10, precision="bf16"), device="cpu")
    if not engine:
        reranker._computing = lambda precision: lambda rows: reranker._padded_logits(rows, precision)  # type: ignore[method-assign]
    reranker.score_pairs(QUERIES, PASSAGES)
    assert kinds == {(head, torch.float32, torch.float32) for head in heads}
