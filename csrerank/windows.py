"""The windows of a re-ranking job, which are the unit of sorting, scoring and journal, and who scores them: this process, or whoever takes ``Work``."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from csrerank.collections.texts import Documents, Topics
    from csrerank.models.reranker import Prepared, Reranker

# As many whole topics, in run order, as hold so many pairs, or one that has more. It must not depend on how a job was run, because the make-up of a batch moves the
# last bits of a score.
WINDOW = 2048


class Pair(NamedTuple):
    """A document of a topic; ``place`` is the topic's in the run."""

    place: int
    topic: str
    doc: str


class Work(NamedTuple):
    """The texts of a window's pairs; ``places`` tells which are of one topic."""

    number: int
    places: list[int]
    queries: list[str]
    passages: list[str]


class Scored(NamedTuple):
    """A window's scores: float32 [pairs]; how many of its passages were cut, and how often memory ran out."""

    number: int
    scores: np.ndarray
    passages_cut: int
    budget_halvings: int


# Scores windows and gives them back, in any order; the second argument is told of pairs that were finished.
Engine = Callable[[Iterator[Work], Callable[[int], object]], Iterator[Scored]]


def windows(pairs: Iterable[Pair], size: int) -> Iterator[list[Pair]]:
    """Windows of whole topics: as many as have ``size`` pairs or fewer, or one that has more."""
    window: list[Pair] = []
    for _, topic in groupby(pairs, lambda pair: pair.place):
        more = list(topic)
        if window and len(window) + len(more) > size:
            yield window
            window = []
        window += more
    if window:
        yield window


def work_of(number: int, pairs: Sequence[Pair], topics: "Topics", documents: "Documents") -> Work:
    """The texts of pairs; each document is asked for once."""
    texts = documents.texts(list(dict.fromkeys(pair.doc for pair in pairs)))
    return Work(number, [pair.place for pair in pairs], [topics.texts[pair.topic] for pair in pairs], [texts[pair.doc] for pair in pairs])


def score_window(model: "Reranker", work: Work, advance: Callable[[int], object] | None = None, prepared: "Prepared | None" = None) -> Scored:
    """Score one window with a model that is here; ``prepared`` are its pairs, where they are at hand."""
    halvings = model.budget_halvings
    pairs = prepared or model.prepared(work.queries, work.passages, work.places)
    return Scored(work.number, model.scores_of(pairs, advance), pairs.passages_cut, model.budget_halvings - halvings)


def place_of(model: "Reranker") -> dict[str, Any]:
    """What moves the last bits of scores beside the settings: the device, torch's threads, and versions."""
    import torch

    from csrerank.metadata import versions

    return {
        "device": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else f"{model.device.type} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "versions": {name: version for name, version in versions().items() if name in ("csrerank", "torch", "transformers", "tokenizers")},
    }


def here(model: "Reranker") -> Engine:
    """One window after the other in this process, the next one tokenised while one is computed."""

    def scored(work: Iterator[Work], advance: Callable[[int], object]) -> Iterator[Scored]:
        with ThreadPoolExecutor(1) as beside:

            def begun() -> "tuple[Work, Future[Prepared]] | None":
                window = next(work, None)
                return window and (window, beside.submit(model.prepared, window.queries, window.passages, window.places))

            ahead = begun()
            while ahead is not None:
                window, pairs = ahead[0], ahead[1].result()
                ahead = begun()
                yield score_window(model, window, advance, pairs)

    return scored
