"""Early stop: a shallow pass over all candidates of a topic, and the whole model for those alone that may still reach the top.

The pass runs the first third of the layers and predicts from the mean state what the whole model will say: ridge regression on a sample of the job's own topics. How far
below the K-th best prediction a candidate may lie and still be scored is read off the same sample, each topic predicted from the others' (five folds): far enough that
the stated share of the true top K is kept. No distribution is assumed; what is kept and what is lost on the sample is reported.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from csrerank.errors import InputError

if TYPE_CHECKING:
    from csrerank.models.reranker import Reranker

FOLDS = 5
TOPICS = 20  # at least, to learn from
SAMPLE = 4000  # pairs of whole topics
_RIDGE = 1.0  # in units of the features' variance, times the hidden size


class Pruner(NamedTuple):
    """What prunes: ``weights`` [hidden + 1] predict a score from the mean state after ``layers``; candidates more than ``margin`` below the ``k``-th best prediction
    are not scored. ``kept`` is the share of the sample's candidates that were, ``recall`` the share of their true top k among these.
    """

    layers: int
    weights: np.ndarray
    k: int
    margin: float
    kept: float
    recall: float

    def predict(self, means: np.ndarray) -> np.ndarray:
        """Predicted scores: float32 [inputs] from [inputs, hidden]."""
        return (means @ self.weights[:-1] + self.weights[-1]).astype(np.float32)

    def count(self, predicted: np.ndarray) -> int:
        """How many of a topic's candidates, predictions highest first, are scored."""
        return len(predicted) if len(predicted) <= self.k else int((predicted >= predicted[self.k - 1] - self.margin).sum())

    @property
    def described(self) -> dict[str, Any]:
        """What a journal and a sidecar say of it."""
        return {**self._asdict(), "weights": hashlib.sha256(self.weights.tobytes()).hexdigest()}


def fitted(model: "Reranker", topics: Sequence[tuple[str, Sequence[str]]], k: int, confidence: float) -> Pruner:
    """Learn to prune for the top ``k`` from topics with their passages, which are all scored by the whole model.

    Raises ``InputError`` for fewer than ``TOPICS`` topics with more than ``k`` passages, a confidence outside (0, 1), and a model without the layers.
    """
    if k < 1 or not 0 < confidence < 1:
        raise InputError(f"--cascade {k} --confidence {confidence}: give 1 or more, and a share between 0 and 1")
    topics = [(query, passages) for query, passages in topics if len(passages) > k]
    if len(topics) < TOPICS:
        raise InputError(f"--cascade {k}: {len(topics)} topics with more than {k} candidates, where {TOPICS} are needed to learn from; leave it out")
    layers = model.depth // 3
    if not layers:
        raise InputError("--cascade: needs a model of BERT's kin with four layers or more, on a CPU; leave it out")
    queries = [query for query, passages in topics for _ in passages]
    passages = [passage for _, own in topics for passage in own]
    places = np.repeat(np.arange(len(topics)), [len(own) for _, own in topics])
    exact = model.score_pairs(queries, passages, None, places.tolist())
    means = model.means(queries, passages, layers)
    predicted = np.zeros(len(exact))
    for fold in range(FOLDS):
        own = places % FOLDS == fold
        predicted[own] = _ridge(means[~own], exact[~own]) @ np.c_[means[own], np.ones(own.sum())].T
    needed: list[float] = []  # how far below the k-th best prediction each document of the true top k was predicted
    for topic in range(len(topics)):
        guess, truth = predicted[places == topic], exact[places == topic]
        best = np.argsort(-truth, kind="stable")[:k]
        needed += (np.sort(guess)[-k] - guess[best]).tolist()
    # The share of (n + 1), so that the expected share of a new topic is no less (split conformal prediction, Papadopoulos et al. 2002).
    rank = min(len(needed), int(np.ceil(confidence * (len(needed) + 1))))
    margin = max(0.0, float(np.sort(needed)[rank - 1]))
    pruner = Pruner(layers, _ridge(means, exact), k, margin, 0.0, float(np.mean(np.array(needed) <= margin)))
    kept = sum(pruner.count(np.sort(predicted[places == topic])[::-1]) for topic in range(len(topics)))
    return pruner._replace(kept=kept / len(exact))


def _ridge(means: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Weights and, last, the constant: float64 [hidden + 1]."""
    centre, level = means.mean(0), scores.mean()
    states = (means - centre).astype(np.float64)
    products = states.T @ states
    penalty = _RIDGE * float(np.trace(products)) / len(products)
    weights = np.linalg.solve(products + penalty * np.eye(len(products)), states.T @ (scores - level))
    return np.append(weights, level - centre @ weights)
