"""Which arithmetic scores: float32, bfloat16, 8-bit integers, or ``mixed``: integers for all pairs, and float32 for the best of each topic again."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from csrerank.errors import InputError

PRECISIONS = ("auto", "fp32", "bf16", "mixed", "int8")
TRAINED = ("auto", "fp32", "bf16")
# Of each topic, scored again by ``mixed``: the ten that measures look at, and two more for what integers misplace there.
REFINED = 12
# Pairs of a job from which on ``auto`` asks whether integers pay: below, to find that out, once for a checkpoint and machine, takes longer than they save.
MANY = 5000
FEW = 48  # candidates of a topic up to which scoring them all in float32 takes no longer, where integers are a third faster


def resolve_precision(precision: str, device: Any) -> str:
    """What ``auto`` of ``TRAINED`` means on a device: bf16 where it multiplies that itself. Raises ``InputError`` for another name."""
    import torch

    if precision not in TRAINED:
        raise InputError(f"unknown precision {precision!r}; known are {' '.join(TRAINED)}")
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else device.type == "cpu" and cpu_has_bf16()
    return ("bf16" if fast else "fp32") if precision == "auto" else precision


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself (elsewhere bf16 is emulated, and slower than fp32), and torch may have it do so."""
    import torch

    # oneDNN calls bf16 supported wherever it can emulate it, which takes AVX-512 alone.
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        and bool(torch.cpu._is_avx512_bf16_supported() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def first_ones(scores: np.ndarray) -> int:
    """How many of a topic's candidates ``mixed`` scores in float32."""
    return REFINED if len(scores) > FEW else len(scores)


def refine(coarse: np.ndarray, groups: Sequence[Any], again: Callable[[list[int]], np.ndarray], count: Callable[[np.ndarray], int] = first_ones) -> np.ndarray:
    """Scores in which the best of each group are those that ``again`` gives for their places, and the others stand below them in the order of ``coarse``, moved by the mean
    difference between the two kinds of scores: float32 [pairs]. ``count`` tells from a group's coarse scores, highest first, how many are the best.
    """
    members: dict[Any, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    ranked = [sorted(places, key=lambda place: -coarse[place]) for places in members.values()]
    counts = [count(coarse[places]) for places in ranked]
    best = sorted(place for places, number in zip(ranked, counts, strict=True) for place in places[:number])
    scores = coarse.astype(np.float32)
    scores[best] = again(best)
    for places, number in zip(ranked, counts, strict=True):
        above, below = places[:number], places[number:]
        if below:
            moved = coarse[below] + np.mean(scores[above] - coarse[above], dtype=np.float32)
            ceiling = np.nextafter(scores[above].min(), np.float32(-np.inf))
            scores[below] = np.minimum(moved - max(np.float32(0), moved.max() - ceiling), ceiling)
    return scores


@contextmanager
def head_in_fp32(model: Any, wanted: bool) -> Iterator[None]:
    """Keep autocast out of the classification head: a logit in bf16 has 8 bits, so documents would tie that the model tells apart."""
    import torch

    heads = [module for name, module in model.named_children() if name != model.base_model_prefix] if wanted else []
    pooler = getattr(model.base_model, "pooler", None)  # BERT's is a part of what it heads
    heads += [pooler] if wanted and pooler is not None else []

    def fp32(forward: Callable[..., Any]) -> Callable[..., Any]:
        def computed(*inputs: Any) -> Any:
            with torch.autocast(next(model.parameters()).device.type, enabled=False):
                return forward(*(value.float() if isinstance(value, torch.Tensor) else value for value in inputs))

        return computed

    for head in heads:
        head.forward = fp32(head.forward)
    try:
        yield
    finally:
        for head in heads:
            del head.forward  # the class's own is back
