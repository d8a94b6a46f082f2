"""What training lowers. Each objective takes logits, float32 [topics, documents] with the relevant document in column 0, and gives one number to lower."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from csrerank.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Objective = Callable[["Tensor"], "Tensor"]


def pointwise(logits: "Tensor") -> "Tensor":
    """Binary cross-entropy of every single pair (Nogueira and Cho 2019), the objective of Litschko et al. (2023)."""
    import torch

    labels = torch.zeros_like(logits)
    labels[:, 0] = 1.0
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)


def pairwise(logits: "Tensor") -> "Tensor":
    """-log sigmoid of the relevant document's logit less that of each other (RankNet; Burges et al. 2005)."""
    import torch

    return torch.nn.functional.softplus(logits[:, 1:] - logits[:, :1]).mean()


def listwise(logits: "Tensor") -> "Tensor":
    """Softmax cross-entropy of the relevant document among its group (localised contrastive estimation; Gao, Dai and Callan 2021)."""
    return (logits.logsumexp(1) - logits[:, 0]).mean()


OBJECTIVES: Mapping[str, Objective] = {"pointwise": pointwise, "pairwise": pairwise, "listwise": listwise}


def objective_named(name: str) -> Objective:
    """The objective of this name, or ``InputError``."""
    if name not in OBJECTIVES:
        raise InputError(f"unknown objective {name!r}; known are {' '.join(OBJECTIVES)}")
    return OBJECTIVES[name]


def distilled(logits: "Tensor", teacher: "Tensor", temperature: float) -> "Tensor":
    """Cross-entropy of the student's distribution over each group against the teacher's (ListNet's top-one; Cao et al. 2007), less the teacher's entropy, so
    that 0 is the best.

    :param teacher: the teacher's scores, float32 [topics, documents]; they are divided by ``temperature`` before the softmax.
    """
    import torch

    return torch.nn.functional.kl_div(logits.log_softmax(1), (teacher / temperature).log_softmax(1), reduction="batchmean", log_target=True)
