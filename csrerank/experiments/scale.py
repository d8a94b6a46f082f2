"""How much is ranked and trained on: what a machine has the time for."""

from typing import NamedTuple


class Scale(NamedTuple):
    """How much a cell ranks and how long a model trains: ``topics`` a track (fixed by a hash; None for all), ``k`` candidates a topic, ``questions`` to train on,
    the longest input in tokens, and candidates a topic where they come as a list without an order (mMARCO's, of which the paper ranks all)."""

    topics: int | None
    k: int
    questions: int | None
    max_length: int = 512
    unordered: int = 1000


SCALES = {"toy": Scale(4, 5, 16, 128, 5), "small": Scale(300, 50, 10_000, unordered=50), "full": Scale(None, 100, None)}
