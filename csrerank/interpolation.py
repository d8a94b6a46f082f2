"""The first stage's scores beside the model's: a weighted sum, as in CombSUM after standardising each (Wu 2012, Data Fusion in Information Retrieval; Wang et al. 2021
found that a cross-encoder's scores gain by it). A first stage that knows the pair's languages keeps its say where the model was trained on too little of them."""

from collections.abc import Sequence

import numpy as np

from csrerank.errors import InputError


def check_interpolation(weight: float, precision: str, cascade: bool) -> None:
    """Raise ``InputError`` for a weight that is no share, and where scores below a topic's best are not on the scale of the others."""
    if not 0 < weight < 1:
        raise InputError(f"--interpolate {weight}: the model's share of the sum lies between 0 and 1; for 1, the model's scores alone, leave it out")
    if cascade:
        raise InputError("--interpolate does not go with --cascade, which leaves candidates without a score of the model; leave one out")
    if precision == "mixed":
        raise InputError("--interpolate does not go with --precision mixed, whose scores compare among a topic's best only; give auto, bf16 or fp32")


def interpolated(first: Sequence[float], scores: np.ndarray, weight: float) -> np.ndarray:
    """Of one topic's candidates: ``weight`` times the model's ``scores`` and the rest of 1 times the ``first`` stage's, each less its mean and over its standard deviation
    (all alike, or apart by no more than a run's writer sets ties apart: 0): float32 [candidates]."""
    return np.float32(weight) * _standard(scores) + np.float32(1 - weight) * _standard(first)


def _standard(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """Float32, so that two that cancel each other tie."""
    values = np.asarray(scores, np.float64)
    largest = np.abs(values).max(initial=0.0)
    if largest < np.finfo(np.float32).tiny:
        return np.zeros(len(values), np.float32)
    values = values / largest  # squares of the largest scores that a run can have would overflow
    spread = values.std()
    if spread <= len(values) * np.finfo(np.float32).eps:
        return np.zeros(len(values), np.float32)
    return ((values - values.mean()) / spread).astype(np.float32)
