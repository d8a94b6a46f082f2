"""Early stop: a shallow pass over all candidates of a topic, and the whole model for those alone that may still reach the top.

The pass runs the first third of the layers and predicts from the mean state what the whole model will say. What predicts, ridge regression, is fitted on some of the
job's own topics. How far below the K-th best prediction a candidate may lie and still be scored is found on others, by conformal risk control (Angelopoulos et al. 2022):
the share of a topic's true top K that is lost is at most 1 - confidence in expectation, for topics that are drawn like these. No distribution is assumed. What was kept
and lost is measured on a third part of the topics, which nothing was fitted on.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from csrerank.errors import InputError

if TYPE_CHECKING:
    from csrerank.models.reranker import Reranker

FIT, TESTED = 30, 20  # topics to fit the prediction on, and to measure on
_SLACK = 2  # times the least number of topics from which a confidence can be had
_RIDGE = 1.0  # in units of the features' variance


class Pruner(NamedTuple):
    """What prunes: ``weights`` [hidden + 1] predict a score from the mean state after ``layers``; candidates more than ``margin`` below the ``k``-th best prediction are
    not scored. ``kept`` is the share of the candidates that were, ``lost`` the share of the true top k among the others, both on the topics to measure on.
    """

    layers: int
    k: int
    margin: float
    kept: float
    lost: float
    weights: np.ndarray

    def predictor(self, device: Any) -> Callable[[Any], Any]:
        """What gives predicted scores, float32 [inputs, 1], from a tensor [inputs, hidden] on a device."""
        import torch

        weights, constant = torch.from_numpy(self.weights[:-1, None]).to(device), self.weights[-1].item()
        return lambda means: means @ weights + constant

    def count(self, predicted: np.ndarray) -> int:
        """How many of a topic's candidates, predictions highest first, are scored."""
        return len(predicted) if len(predicted) <= self.k else int((predicted >= predicted[self.k - 1] - self.margin).sum())

    @property
    def described(self) -> dict[str, Any]:
        """What a sidecar says of it."""
        return {"k": self.k, "layers": self.layers, "margin": self.margin, "kept": self.kept, "lost": self.lost}

    def packed(self) -> np.ndarray:
        """As a journal keeps it: float32."""
        return np.concatenate([np.array(self[:-1]), self.weights]).astype(np.float32)

    @classmethod
    def unpacked(cls, values: np.ndarray) -> "Pruner":
        """What ``packed`` gave."""
        layers, k, margin, kept, lost = values[:5].tolist()
        return cls(int(layers), int(k), margin, kept, lost, values[5:].copy())


def topics_needed(confidence: float) -> int:
    """Topics with more than k candidates to learn from. Raises ``InputError`` for a confidence that no number of topics gives."""
    if not 0 < confidence < 1:
        raise InputError(f"--confidence {confidence}: give a share between 0 and 1")
    return FIT + _calibrating(confidence) + TESTED


def _calibrating(confidence: float) -> int:
    return _SLACK * math.ceil(1 / (1 - confidence) - 1e-9)


def fitted(
    model: "Reranker", topics: Iterable[tuple[str, Sequence[str]]], k: int, confidence: float, advance: Any = None, score: Callable[[int], np.ndarray] | None = None
) -> Pruner:  # fmt: skip
    """Learn to prune for the top ``k`` from ``topics_needed`` topics, each with more than ``k`` passages, which are all scored by the whole model; ``advance`` is told of
    scored pairs. ``score`` gives the whole model's scores of a topic by its place, for who keeps them. Topics are taken one by one, and their texts are not kept.

    Raises ``InputError`` for other numbers, and a model without the layers.
    """
    layers = layers_of(model)
    weights = np.zeros(0, np.float32)
    means: list[np.ndarray] = []
    exact: list[np.ndarray] = []
    guesses: list[np.ndarray] = []
    for place, (query, passages) in enumerate(topics):
        check_numbers(k, len(passages), confidence)
        exact.append((score(place) if score is not None else model.score(query, passages)).astype(np.float64))
        means.append(model.means([query] * len(passages), passages, layers))
        if place == FIT - 1:
            weights = _ridge(np.concatenate(means), np.concatenate(exact)).astype(np.float32)
        if place >= FIT - 1:  # states are large, and done with
            guesses += [states.astype(np.float64) @ weights[:-1] for states in means]
            means.clear()
        if advance is not None:
            advance(len(passages))
    check_numbers(k, k + 1, confidence, len(exact))
    draft = Pruner(layers, k, 0.0, 0.0, 0.0, weights)
    tested, calibrating = slice(FIT, FIT + TESTED), slice(FIT + TESTED, None)
    margin = _margin(guesses[calibrating], exact[calibrating], k, 1 - confidence)
    pruner = draft._replace(margin=float(np.float32(margin)))
    results = [_result(pruner, guess, truth) for guess, truth in zip(guesses[tested], exact[tested], strict=True)]
    candidates = sum(map(len, guesses[tested]))
    kept, lost = sum(kept for kept, _ in results) / candidates, float(np.mean([lost for _, lost in results]))
    return pruner._replace(kept=float(np.float32(kept)), lost=float(np.float32(lost)))


def layers_of(model: "Reranker") -> int:
    """The layers of the shallow pass. Raises ``InputError`` for a model without enough of them."""
    if not (layers := model.depth // 3):
        raise InputError("--cascade: needs a model of BERT's kin with four layers or more, on a CPU or a GPU of NVIDIA's kind; leave it out")
    return layers


def check_numbers(k: int, candidates: int, confidence: float, topics: int | None = None) -> None:
    """Raise ``InputError`` unless topics with so many candidates, and so many topics, are what is learnt from."""
    needed = topics_needed(confidence)
    if k < 1 or candidates <= k or topics not in (None, needed):
        raise InputError(f"--cascade {k}: learns from {needed} topics with more than {k} candidates each; leave it out, or lower --confidence")


def _margin(guesses: Sequence[np.ndarray], exact: Sequence[np.ndarray], k: int, risk: float) -> float:
    """The least margin at which the topics' mean loss, with one more topic that loses all, is ``risk`` or less."""
    needs = []  # of each topic: how far below its k-th best prediction each document of its true top k lies
    for guess, truth in zip(guesses, exact, strict=True):
        needs.append(np.sort(guess)[-k] - guess[np.argsort(-truth, kind="stable")[:k]])
    for margin in np.unique(np.maximum(0, np.concatenate(needs))):
        losses = [float((need > margin).mean()) for need in needs]
        if (sum(losses) + 1) / (len(losses) + 1) <= risk:
            return float(np.nextafter(np.float32(margin), np.float32(np.inf)))
    raise AssertionError("at the largest margin nothing is lost, and the number of topics is such that this is enough")


def _result(pruner: Pruner, guess: np.ndarray, truth: np.ndarray) -> tuple[int, float]:
    """How many of a topic's candidates are scored, and the share of the true top k among the others."""
    ranked = np.argsort(-guess, kind="stable")
    kept = ranked[: pruner.count(guess[ranked])]
    best = np.argsort(-truth, kind="stable")[: pruner.k]
    return len(kept), 1 - len(np.intersect1d(kept, best)) / pruner.k


def _ridge(means: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Weights and, last, the constant: float64 [hidden + 1]."""
    import torch  # whose threads are those that the job goes by

    states, level = torch.from_numpy(means).double(), float(scores.mean())
    centre = states.mean(0)
    states = states - centre
    products = states.T @ states
    penalty = _RIDGE * products.diagonal().mean()
    weights = torch.linalg.solve(products + penalty * torch.eye(len(products), dtype=torch.float64), states.T @ torch.from_numpy(scores - level))
    return np.append(weights.numpy(), level - float(centre @ weights))
