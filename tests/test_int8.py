"""Products in integers, their calibration, and the precision that scores the best again."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csrerank.errors import InputError
from csrerank.models import int8, reranker
from csrerank.models.precision import FEW, REFINED, cpu_has_bf16, refine, resolve_precision

pytestmark = pytest.mark.skipif(not int8.supported(), reason="a processor without VNNI and AVX2 does not multiply 8-bit integers")

QUERIES = ["why do whales sleep", "the mountains"]
PASSAGES = [f"{word} {number} {other}" for number in range(9) for word in ("whale", "stone", "night") for other in ("sleep", "the whale and the mountain")]


@pytest.fixture
def load(toy_model: Path) -> Callable[..., Any]:
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings

    return lambda precision="fp32", folder=toy_model: Reranker.load(folder, Settings(96, 30, precision=precision), "cpu")


def pairs() -> tuple[list[str], list[str]]:
    return [query for query in QUERIES for _ in PASSAGES], PASSAGES * len(QUERIES)


def test_a_product_is_that_of_the_rounded_numbers() -> None:
    """Held to the sums written out, with channels of very different sizes, and one kept apart."""
    import torch

    generator = torch.Generator().manual_seed(2)
    sizes = torch.tensor([0.01, 0.1, 1.0, 10.0] * 8)
    states = torch.randn(70, 32, generator=generator) * sizes
    states[:, 5] += 300  # of one sign and far from the others
    weight, bias = torch.randn(24, 32, generator=generator), torch.randn(24, generator=generator)
    seen = int8.Range(states.amin(0), states.amax(0))
    exact = states @ weight.T + bias
    for apart in (0, 1):
        product = int8.Coded(weight, bias, seen, apart)
        found = product(states)
        inner = torch.addcmul(product._shift, states, product._factor).clamp(0, 255).floor()
        by_hand = ((inner - product.coding.zero) * product.coding.step) @ _weights(product, weight, seen, apart).T + bias
        if apart:
            by_hand += states[:, [5]] @ weight[:, [5]].T
        assert torch.allclose(found.float(), by_hand, rtol=1 / 128, atol=0.3)
    assert (found.float() - exact).abs().max() < 0.02 * exact.std() + 0.01 * exact.abs().max()


def _weights(product: Any, weight: Any, seen: int8.Range, apart: int) -> Any:
    """The weights as rounded, in units of the states as rounded: float32 [out, in]."""
    import torch

    top = torch.maximum(seen.low.abs(), seen.high.abs()).clamp_min(1e-5)
    scale = top**int8.BALANCE / weight.abs().amax(0) ** (1 - int8.BALANCE)
    scaled = weight * scale
    if apart:
        scaled[:, 5] = 0
    steps = scaled.abs().amax(1) / int8.largest_weight()
    return (scaled / steps[:, None]).round() * steps[:, None]


@pytest.mark.parametrize("beyond", [1, 3])
def test_the_feed_forward_part_is_that_of_the_rounded_numbers(beyond: float) -> None:
    """Held to the codes written out: inner channels of very different sizes, the large ones computed apart, and (``beyond``) states that leave the ranges seen, up and down."""
    import torch

    generator = torch.Generator().manual_seed(4)
    states = torch.randn(128, 32, generator=generator)
    weight, bias = torch.randn(48, 32, generator=generator) / 6, torch.randn(48, generator=generator) / 3
    large = [3, 40, *range(10, 16)]
    weight[large] *= 40
    back, last = torch.randn(32, 48, generator=generator), torch.randn(32, generator=generator)
    middle = torch.nn.functional.gelu(states @ weight.T + bias)
    seen = int8.Range(states.amin(0), states.amax(0)), int8.Range(middle.amin(0), middle.amax(0))
    feed = int8.CodedFeedForward((weight, bias), (back, last), seen)
    states = states * beyond
    inner = feed._inner
    coded = (torch.addcmul(inner._shift, states, inner._factor).clamp(0, 255).floor() - inner.coding.zero) * inner.coding.step
    by_hand = torch.nn.functional.gelu(coded @ _weights(inner, weight, seen[0], 0).T + bias)
    codes = inner.weights.gelu(inner.codes(states), inner.coding, feed._coding)
    small = [at for at in range(48) if at not in large]
    expected = (by_hand / feed._coding.step + feed._coding.zero).round().clamp(0, 255)
    assert (codes[:, small].float() - expected[:, small]).abs().max() <= 1  # GELU's own last bits
    assert ((codes[:, small] == 255).float().mean() > 0.005) == (beyond > 1)
    kept = back.clone()
    kept[:, large] = 0
    steps = kept.abs().amax(1, keepdim=True) / int8.largest_weight()
    exact = torch.nn.functional.gelu(states @ weight[large].T + bias[large]) @ back[:, large].T
    whole = ((codes.float() - feed._coding.zero) * feed._coding.step) @ ((kept / steps).round() * steps).T + last + exact
    found = feed(states)
    assert found.dtype == torch.float32 and torch.allclose(found, whole, rtol=1e-4, atol=1e-2)
    if beyond == 1:
        near = middle[:, small] @ back[:, small].T
        assert (found - middle @ back.T - last).square().mean().sqrt() < 0.1 * near.std()


@pytest.mark.parametrize("activation", ["gelu", "relu", "gelu_new"])
def test_integers_serve_other_activations_too(activation: str) -> None:
    import torch
    from transformers.activations import ACT2FN

    generator = torch.Generator().manual_seed(6)
    states = torch.randn(64, 32, generator=generator)
    inner, outer = ((torch.randn(*size, generator=generator) / 5, torch.zeros(size[0])) for size in ((64, 32), (32, 64)))
    function = ACT2FN[activation]
    middle = function(states @ inner[0].T)
    exact = middle @ outer[0].T
    integers = int8.Integers({"0.inner": int8.Range(states.amin(0), states.amax(0)), "0.outer": int8.Range(middle.amin(0), middle.amax(0))})
    feed = integers.feed_forward("0", inner, function, outer)
    assert isinstance(feed, int8.CodedFeedForward) == (activation == "gelu")
    assert (feed(states).float() - exact).std() < 0.03 * exact.std()


def test_no_sum_is_cut_off() -> None:
    """The largest codes of states and weights, side by side: where the processor adds two products in 16 bits, they must not run over."""
    import torch

    for sign in (1, -1):
        product = int8.Coded(torch.full((16, 64), float(sign)), torch.zeros(16), int8.Range(torch.zeros(64), torch.full((64,), 3.0)))
        assert torch.allclose(product(torch.full((64, 64), 3.0)).float(), torch.full((64, 16), sign * 3.0 * 64), rtol=1 / 128)


def test_no_sum_inside_gelu_is_cut_off() -> None:
    """The same for the product that puts out codes, another one of oneDNN's: sums of 64 x 3, of both signs."""
    import torch

    for sign, code in ((1, 255), (-1, 0)):
        product = int8.Coded(torch.full((16, 64), float(sign)), torch.zeros(16), int8.Range(torch.zeros(64), torch.full((64,), 3.0)))
        codes = product.weights.gelu(product.codes(torch.full((64, 64), 3.0)), product.coding, int8.Coding(192 / 255, 0))
        assert codes.tolist() == [[code] * 16] * 64


def test_states_beyond_the_range_count_as_its_ends() -> None:
    import torch

    weight = torch.eye(16)
    product = int8.Coded(weight, torch.zeros(16), int8.Range(-torch.ones(16), torch.ones(16)))
    found = product(torch.full((64, 16), 7.0)).float()
    assert torch.allclose(found, torch.ones(64, 16), atol=0.02)


def test_integers_rank_much_as_the_exact_scores(load: Callable[..., Any]) -> None:
    exact, coded = (load(precision).score_pairs(*pairs()) for precision in ("fp32", "int8"))
    assert 0 < np.std(exact - coded) < 0.25 * np.std(exact)


def test_mixed_scores_the_best_of_each_topic_again_and_puts_the_others_below(load: Callable[..., Any]) -> None:
    queries, passages = pairs()
    mixed, coarse, plain = (load(precision).score_pairs(queries, passages) for precision in ("mixed", "int8", "fp32"))
    for at in range(2):
        part = slice(at * len(PASSAGES), (at + 1) * len(PASSAGES))
        best = set(np.argsort(-coarse[part], kind="stable")[:REFINED])
        others = [place for place in range(len(PASSAGES)) if place not in best]
        assert mixed[part][sorted(best)] == pytest.approx(plain[part][sorted(best)], abs=1e-4)  # other batches
        assert mixed[part][others].max() < mixed[part][sorted(best)].min()
        assert (np.argsort(-mixed[part][others], kind="stable") == np.argsort(-coarse[part][others], kind="stable")).all()


def test_mixed_does_not_ask_about_bf16(load: Callable[..., Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(reranker, "bf16_holds", lambda *_: pytest.fail("it computes none"))
    assert load("mixed").exact == "fp32"


def test_topics_with_the_same_text_are_topics_of_their_own(load: Callable[..., Any]) -> None:
    model = load("mixed")
    first, second = PASSAGES, PASSAGES[::-1]
    alone = [model.score_pairs([QUERIES[0]] * len(part), part) for part in (first, second)]
    both = model.score_pairs([QUERIES[0]] * 2 * len(first), first + second, None, [0] * len(first) + [1] * len(first))
    for one, part in zip(alone, (both[: len(first)], both[len(first) :]), strict=True):
        assert part == pytest.approx(one, abs=0.02)


def test_topics_with_few_candidates_are_scored_once(load: Callable[..., Any]) -> None:
    few = PASSAGES[:FEW]
    mixed, plain = (load(precision).score_pairs([QUERIES[0]] * FEW, few) for precision in ("mixed", "fp32"))
    assert np.array_equal(mixed, plain)
    told: list[int] = []
    load("mixed").score_pairs([QUERIES[0]] * FEW + [QUERIES[1]] * len(PASSAGES), few + PASSAGES, told.append)
    assert sum(told) == FEW + len(PASSAGES)


def test_what_is_scored_again_stays_above() -> None:
    coarse = np.array([5, 4, 3, 2, 1, *range(-60, 0)], np.float32)
    groups = [0] * len(coarse)
    assert len(coarse) > FEW
    lower = refine(coarse, groups, lambda best: coarse[best] - 100)
    best = sorted(np.argsort(-coarse, kind="stable")[:REFINED])
    others = [place for place in range(len(coarse)) if place not in best]
    assert lower[best] == pytest.approx(coarse[best] - 100) and lower[others] == pytest.approx(coarse[others] - 100)  # moved along with them
    spread = refine(coarse, groups, lambda best: np.where(coarse[best] > 2, 50, -50).astype(np.float32))
    assert spread[others].max() < -50 and (np.diff(spread[others]) >= 0).all()
    few = refine(coarse[:3], [0, 0, 0], lambda best: np.array([1, 2, 3], np.float32))
    assert few.tolist() == [1, 2, 3]


def test_the_calibration_is_kept_for_a_checkpoint_and_made_anew_for_weights_that_changed(load: Callable[..., Any], tmp_path: Path, monkeypatch: Any) -> None:
    import torch

    monkeypatch.setenv("CSRERANK_CACHE", str(tmp_path / "cache"))
    model = load("int8")
    before, made = model.score_pairs(*pairs()), model.calibration
    (kept,) = (tmp_path / "cache" / "int8").iterdir()
    assert model.fingerprint.startswith(kept.name[:24])
    assert made.gain > 0 and (made.bf16_gain == 1) == (not cpu_has_bf16())
    again = load("int8")
    assert again.calibration.digest == made.digest and again.calibration.error == made.error
    assert np.array_equal(again.score_pairs(*pairs()), before)
    kept.write_bytes(b"what a full disk left")
    assert load("int8").calibration.digest == made.digest and kept.stat().st_size > 100
    with torch.no_grad():
        model.model.base_model.encoder.layer[0].intermediate.dense.weight.mul_(3)
    assert not np.allclose(model.score_pairs(*pairs()), before) and model.calibration.digest != made.digest
    assert load("int8").calibration.digest == made.digest  # the cache is the checkpoint's


def test_a_cache_that_cannot_be_written_is_no_hindrance(load: Callable[..., Any], tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("CSRERANK_CACHE", str(tmp_path / "cache"))
    model = load("int8")
    assert np.isfinite(model.score_pairs(*pairs())).all()
    assert not model.calibration.kept and not model.calibration.pays("fp32", 100)  # auto would be decided anew by each process


def test_jobs_that_begin_at_once_go_by_one_calibration(tmp_path: Path, monkeypatch: Any) -> None:
    """Each would have measured another gain, and ``auto`` might take another precision in each."""
    from concurrent.futures import ThreadPoolExecutor

    from csrerank.models.calibration import Calibration, calibration_of

    monkeypatch.setenv("CSRERANK_CACHE", str(tmp_path / "cache"))
    made: list[float] = []

    def make() -> Calibration:
        made.append(2 + len(made) / 10)
        time.sleep(0.3)
        return Calibration({}, 0.1, 0.98, made[-1], 1.6)

    with ThreadPoolExecutor(4) as pool:
        found = [(one.error, one.agreement, one.gain, one.bf16_gain) for one in pool.map(lambda _: calibration_of("f" * 64, make), range(4))]
    assert found == [(0.1, 0.98, 2.0, 1.6)] * 4 and made == [2.0]


def test_what_cannot_be_honoured_is_said(load: Callable[..., Any], tmp_path: Path) -> None:
    import torch

    with pytest.raises(InputError, match="unknown precision 'int4'"):
        load("int4")
    with pytest.raises(InputError, match="unknown precision 'mixed'; known are auto fp32 bf16"):
        resolve_precision("mixed", torch.device("cpu"))
    model = load("auto")
    model.take_fastest(100)
    assert model.settings.precision in ("bf16", "fp32")  # a model so small is not worth it


@pytest.mark.parametrize(("plain", "enough"), [("fp32", 1.21), ("bf16", 1.99)])
def test_auto_is_mixed_where_that_pays(load: Callable[..., Any], monkeypatch: Any, plain: str, enough: float) -> None:
    """By what the calibration measured: fast enough, with 12 of 100 scored again in float32, for what would score alone; near enough; and kept for later runs. By hand: 1 / 1.21 +
    .12 = .946 of float32's time, which has to be .952, and 1 / 1.99 + .12 = .623, where bf16 takes 1 / 1.6 = .625."""
    from csrerank.models.calibration import Calibration

    monkeypatch.setattr(int8, "WIDE", 1)
    for gain, error, agreement, kept, candidates, taken in (
        (enough, 0.2, 0.95, True, 100, "mixed"),
        (enough - 0.02, 0.2, 0.95, True, 100, plain),
        (enough, 0.21, 0.95, True, 100, plain),
        (enough, 0.2, 0.94, True, 100, plain),
        (enough, 0.2, 0.95, False, 100, plain),
        (enough, 0.2, 0.95, True, 94, plain),
        (9.0, 0.2, 0.95, True, FEW, plain),
    ):
        model = load(plain)
        model._calibration = Calibration({}, error, agreement, gain, 1.6)
        model._calibration.kept = kept
        model.take_fastest(candidates)
        assert model.settings.precision == taken and model.exact == ("fp32" if taken == "mixed" else plain)


def test_memory_is_given_back_now_and_then(load: Callable[..., Any], monkeypatch: Any) -> None:
    given: list[int] = []
    monkeypatch.setattr(reranker, "give_back_memory", lambda: given.append(1))
    monkeypatch.setattr(reranker, "_MUCH", 2 * len(PASSAGES))
    model = load("fp32")
    for times in (0, 1, 1, 2):
        model.score(QUERIES[0], PASSAGES)
        assert len(given) == times


def test_what_computes_is_told(load: Callable[..., Any], monkeypatch: Any) -> None:
    """The journal and Ray's workers go by it."""
    assert load("fp32").arithmetic == "fp32"
    for able, kind in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(reranker, "cpu_has_bf16", lambda able=able: able)
        assert load("mixed").arithmetic == f"mixed ({kind} between, weights to {int8.largest_weight()})"


def test_a_model_that_the_engine_does_not_serve(tmp_path: Path) -> None:
    from toy.encoders import build_encoder

    from csrerank.models.backbones import load_backbone
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings

    model, tokenizer = load_backbone(build_encoder(tmp_path / "mdeberta", "mdeberta"))
    for precision in ("int8", "mixed"):
        with pytest.raises(InputError, match=f"--precision {precision}: needs a model of BERT's kin on a processor that multiplies 8-bit integers"):
            Reranker(model, tokenizer, Settings(48, 10, precision=precision), device="cpu")
