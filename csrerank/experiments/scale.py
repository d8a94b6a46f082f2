"""How much is ranked and trained on: what a machine has the time for."""

from typing import NamedTuple


class Scale(NamedTuple):
    """How much a cell ranks and how long a model trains: ``topics`` a track (fixed by a hash; None for all), ``k`` candidates a topic, ``questions`` to train on,
    and the longest input in tokens."""

    topics: int | None
    k: int
    questions: int | None
    max_length: int = 512


SCALES = {"toy": Scale(4, 5, 16, 128), "small": Scale(300, 50, 10_000), "full": Scale(None, 100, None)}
