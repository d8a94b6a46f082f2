"""Products in 8-bit integers for the engine: activations as u8 by ranges that were seen beforehand, weights as s8 with a scale for each output.

Some channels of a transformer's states are many times larger than others, and one step for all would leave the small ones no bits. As in SmoothQuant (Xiao et al.
2023) each channel is divided by a scale of its own and its weights are multiplied by it; that costs nothing, since a state is multiplied on its way to u8 anyhow.
What the activation function lets through is so uneven that its few largest channels are kept apart, as LLM.int8 does (Dettmers et al. 2022), and multiplied in
float32. Sums are exact (s32); what is lost is lost in rounding states and weights.
"""

from typing import Any, NamedTuple

from csrerank.models.engine import Product
from csrerank.models.precision import cpu_has_bf16

BALANCE = 0.8  # of a channel's range is taken from its states and given to its weights
APART = 8  # channels of the feed-forward part's inner states
WIDE = 256  # hidden size from which on integers can pay: below it, rounding states takes longer than the products
_STEPS = 255  # of u8
_LARGEST = 127  # of s8, without -128, so that a weight and its negative round alike
_LARGEST_PAIRED = 63  # where the processor adds two products in 16 bits first: 2 x 255 x 63 < 2^15, so that no sum is cut off


class Range(NamedTuple):
    """The least and the greatest value seen of each channel: float32 [channels]."""

    low: Any
    high: Any


class Coded:
    """A product whose input is rounded to u8: states [tokens, in] to [tokens, out], bfloat16 where the processor has it, and channels are not kept apart; else float32."""

    def __init__(self, weight: Any, bias: Any, seen: Range, apart: int = 0) -> None:
        import torch

        weight, bias = weight.detach().float(), bias.detach().float()
        top = torch.maximum(seen.low.abs(), seen.high.abs()).clamp_min(1e-5)
        large = weight.abs().amax(0).clamp_min(1e-5)
        scale = top**BALANCE / large ** (1 - BALANCE)
        self._apart = top.topk(apart).indices if apart else None
        low, high = seen.low / scale, seen.high / scale
        if self._apart is not None:
            self._own = weight[:, self._apart].T.contiguous()
            low, high = low.index_fill(0, self._apart, 0), high.index_fill(0, self._apart, 0)
        least, most = min(0.0, low.min().item()), max(0.0, high.max().item())
        self._step = max(most - least, 1e-5) / _STEPS
        self._zero = round(-least / self._step)
        factor, scaled = 1 / (scale * self._step), weight * scale
        if self._apart is not None:
            factor, scaled = factor.index_fill(0, self._apart, 0), scaled.index_fill(1, self._apart, 0)
        self._factor, self._shift = factor, torch.full_like(factor, self._zero + 0.5)  # cut off after it, a number is rounded
        largest = largest_weight()
        steps = scaled.abs().amax(1).clamp_min(1e-8) / largest
        codes = (scaled / steps[:, None]).round().clamp(-largest, largest).to(torch.int8)
        self._kind = torch.bfloat16 if cpu_has_bf16() else torch.float32
        self._weight = torch.ops.onednn.qlinear_prepack(codes, None)
        self._steps, self._zeros, self._bias = steps, torch.zeros(len(steps), dtype=torch.int64), bias

    def __call__(self, states: Any) -> Any:
        import torch

        exact = states.float()  # bfloat16 has not the bits to tell 256 codes apart
        codes = torch.addcmul(self._shift, exact, self._factor).clamp_(0, _STEPS).to(torch.uint8)
        product = torch.ops.onednn.qlinear_pointwise(
            codes, self._step, self._zero, self._weight, self._steps, self._zeros, self._bias, 1.0, 0, self._kind, "none", [], ""
        )
        return product if self._apart is None else product + exact[:, self._apart] @ self._own


def maker(ranges: dict[str, Range]) -> Any:
    """What makes the engine's products, from the ranges of their inputs by name."""

    def made(name: str, weight: Any, bias: Any) -> Product:
        return Coded(weight, bias, ranges[name], APART if name.endswith(".outer") else 0)

    return made


def supported() -> bool:
    """Whether the processor multiplies 8-bit integers: with VNNI u8 by s8 into s32 in one step, with AVX2 two products into 16 bits."""
    import torch

    return torch.backends.mkldnn.is_available() and bool(torch.cpu._is_vnni_supported() or torch.cpu._is_avx2_supported())


def largest_weight() -> int:
    """The largest code of a weight that this processor multiplies without cutting off a sum."""
    import torch

    return _LARGEST if torch.cpu._is_vnni_supported() else _LARGEST_PAIRED
