"""Products in 8-bit integers for the engine: activations as u8 by ranges that were seen beforehand, weights as s8 with a scale for each output.

Some channels of a transformer's states are many times larger than others, and one step for all would leave the small ones no bits. As in SmoothQuant (Xiao et al.
2023) each channel is divided by a scale of its own and its weights are multiplied by it; that costs nothing, since a state is multiplied on its way to u8 anyhow.
What the activation function lets through is so uneven that its few largest channels are kept apart, as LLM.int8 does (Dettmers et al. 2022), and multiplied in
float32. GELU is computed inside the product before it, which puts out u8 codes as the next one takes them, so that its many channels are never written as floating
point; they have one step for all, since that product knows no other, and those apart are what would make it large. Sums are exact (s32); what is lost is lost in rounding
states and weights.
"""

from typing import Any, NamedTuple

from csrerank.models.engine import Linear, Maker, Product
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


class Coding(NamedTuple):
    """What u8 codes stand for: ``(code - zero) * step``."""

    step: float
    zero: int


class Weights:
    """Weights [out, in] as s8 with a step for each output, laid out for the kernel.

    :param weight: for inputs in units of ``(code - zero) * step``: float32 [out, in].
    :param bias: float32 [out].
    """

    def __init__(self, weight: Any, bias: Any) -> None:
        import torch

        largest = largest_weight()
        self._steps = weight.abs().amax(1).clamp_min(1e-8) / largest
        codes = (weight / self._steps[:, None]).round().clamp(-largest, largest).to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(codes, None)
        self._zeros, self._bias = torch.zeros(len(bias), dtype=torch.int64), bias

    def times(self, codes: Any, coding: Coding, kind: Any) -> Any:
        """The product with codes, uint8 [tokens, in], as numbers of a ``kind``: [tokens, out]."""
        return self._product(codes, coding, Coding(1.0, 0), kind, "none", "")

    def gelu(self, codes: Any, coding: Coding, wanted: Coding) -> Any:
        """GELU (by the error function) of the product with codes, uint8 [tokens, in], in the ``wanted`` ones, whose ends stand for what lies beyond: uint8 [tokens, out]."""
        import torch

        return self._product(codes, coding, wanted, torch.uint8, "gelu", "none")

    def _product(self, codes: Any, coding: Coding, wanted: Coding, kind: Any, after: str, algorithm: str) -> Any:
        import torch

        product = torch.ops.onednn.qlinear_pointwise
        return product(codes, *coding, self._packed, self._steps, self._zeros, self._bias, *wanted, kind, after, [], algorithm)


class Coded:
    """A product whose input is rounded to u8: states [tokens, in] to [tokens, out], bfloat16 where the processor has it, and channels are not kept apart; else float32."""

    def __init__(self, weight: Any, bias: Any, seen: Range, apart: int = 0) -> None:
        import torch

        weight, bias = weight.detach().float(), bias.detach().float()
        top = _top(seen)
        large = weight.abs().amax(0).clamp_min(1e-5)
        scale = top**BALANCE / large ** (1 - BALANCE)
        self._apart = top.topk(apart).indices if apart else None
        low, high = seen.low / scale, seen.high / scale
        if self._apart is not None:
            self._own = weight[:, self._apart].T.contiguous()
            low, high = low.index_fill(0, self._apart, 0), high.index_fill(0, self._apart, 0)
        self.coding = _coding(low, high)
        factor, scaled = 1 / (scale * self.coding.step), weight * scale
        if self._apart is not None:
            factor, scaled = factor.index_fill(0, self._apart, 0), scaled.index_fill(1, self._apart, 0)
        self._factor, self._shift = factor, torch.full_like(factor, self.coding.zero + 0.5)  # cut off after it, a number is rounded
        self.weights = Weights(scaled, bias)
        self._kind = torch.bfloat16 if cpu_has_bf16() else torch.float32

    def __call__(self, states: Any) -> Any:
        exact = states.float()  # bfloat16 has not the bits to tell 256 codes apart
        product = self.weights.times(self.codes(exact), self.coding, self._kind)
        return product if self._apart is None else product + exact[:, self._apart] @ self._own

    def codes(self, exact: Any) -> Any:
        """Of float32 states: uint8 [tokens, in]."""
        import torch

        # torch turns float32 into 16 bits by vectors, and these into 8, but not float32 into 8.
        return torch.addcmul(self._shift, exact, self._factor).clamp_(0, _STEPS).to(torch.int16).to(torch.uint8)


class CodedFeedForward:
    """The feed-forward part with GELU inside: states [tokens, hidden] to float32 [tokens, hidden]. What GELU gives for the ``APART`` largest of the inner channels is computed
    in float32.

    :param inner: weights [inner, hidden] and bias [inner]; ``outer``: [hidden, inner] and [hidden].
    :param seen: the ranges of the states, and of the inner ones after GELU.
    """

    def __init__(self, inner: tuple[Any, Any], outer: tuple[Any, Any], seen: tuple[Range, Range]) -> None:
        weight, bias = (part.detach().float() for part in inner)
        back, last = (part.detach().float() for part in outer)
        self._inner = Coded(weight, bias, seen[0])
        apart = _top(seen[1]).topk(min(APART, len(bias))).indices
        self._large, self._own = Linear(weight[apart], bias[apart]), back[:, apart].T.contiguous()
        self._coding = _coding(*(values.index_fill(0, apart, 0) for values in seen[1]))
        self._outer = Weights(back.index_fill(1, apart, 0), last)

    def __call__(self, states: Any) -> Any:
        import torch

        exact = states.float()
        large = torch.nn.functional.gelu(self._large(exact))
        codes = self._inner.weights.gelu(self._inner.codes(exact), self._inner.coding, self._coding)
        return self._outer.times(codes, self._coding, torch.float32).addmm_(large, self._own)


def _top(seen: Range) -> Any:
    """The largest size of each channel's states, not quite 0: float32 [channels]."""
    import torch

    return torch.maximum(seen.low.abs(), seen.high.abs()).clamp_min(1e-5)


def _coding(low: Any, high: Any) -> Coding:
    """Codes for all numbers between the least and the greatest, and 0."""
    least, most = min(0.0, low.min().item()), max(0.0, high.max().item())
    step = max(most - least, 1e-5) / _STEPS
    return Coding(step, round(-least / step))


class Integers(Maker):
    """Products in integers, from the ranges of their inputs by name (``3.joint``, ``3.attention``, ``3.inner``, ``3.outer``)."""

    def __init__(self, ranges: dict[str, Range]) -> None:
        self._ranges = ranges

    def product(self, name: str, weight: Any, bias: Any) -> Product:
        """As :meth:`Maker.product`."""
        return Coded(weight, bias, self._ranges[name], min(APART, weight.shape[1]) if name.endswith(".outer") else 0)

    def feed_forward(self, name: str, inner: tuple[Any, Any], activation: Any, outer: tuple[Any, Any]) -> Product:
        """As :meth:`Maker.feed_forward`; torch's GELU by the error function is computed inside, any other function between two products."""
        import torch

        if getattr(activation, "act", activation) is not torch.nn.functional.gelu:  # transformers' module has it as ``act``
            return super().feed_forward(name, inner, activation, outer)
        return CodedFeedForward(inner, outer, (self._ranges[f"{name}.inner"], self._ranges[f"{name}.outer"]))


def supported() -> bool:
    """Whether the processor multiplies 8-bit integers: with VNNI u8 by s8 into s32 in one step, with AVX2 two products into 16 bits."""
    import torch

    return torch.backends.mkldnn.is_available() and bool(torch.cpu._is_vnni_supported() or torch.cpu._is_avx2_supported())


def largest_weight() -> int:
    """The largest code of a weight that this processor multiplies without cutting off a sum."""
    import torch

    return _LARGEST if torch.cpu._is_vnni_supported() else _LARGEST_PAIRED
