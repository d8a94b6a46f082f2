"""What prunes a job with a cascade: learnt from some of its own topics, and kept in its journal, so that a stopped job goes on with it."""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from heapq import nsmallest
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from csrerank.errors import InputError
from csrerank.journal import Journal
from csrerank.models.cascade import Pruner, check_numbers, fitted, topics_needed
from csrerank.models.precision import TRAINED
from csrerank.plan import Plan, pairs_of
from csrerank.trec import read_run
from csrerank.windows import Pair, Work, score_window, work_of

if TYPE_CHECKING:
    from csrerank.collections.texts import Documents, Topics
    from csrerank.models.reranker import Reranker
    from csrerank.models.settings import Settings

_PRUNER = 2**32 - 1  # its place among a journal's windows, and downwards from it those of the topics that it is learnt from


class Learnt(NamedTuple):
    """What prunes, and the scores of the topics that it was learnt from, all by the whole model: float32 [pairs] by the topics' places in the run; those among
    them that the journal had already.
    """

    pruner: Pruner
    scores: dict[int, np.ndarray]
    resumed: frozenset[int]


def check_cascade(settings: "Settings") -> None:
    """Raise ``InputError`` for a model whose scores are not learnt from: those of one kind would prune those of another."""
    if settings.windows is not None:
        raise InputError("--cascade does not go with --window; leave one out")
    if settings.precision not in TRAINED:
        raise InputError(f"--cascade does not go with --precision {settings.precision}; give auto, bf16 or fp32")


def learnt_of(
    source: str | Path,
    plan: Plan,
    topics: "Topics",
    documents: "Documents",
    model: "Reranker",
    k: int,
    cascade: tuple[int, float],
    journal: Journal,
    quiet: bool,
) -> Learnt:
    """What a cascade goes by: from the job's journal, or learnt from the first topics by a hash that have candidates enough."""
    from tqdm import tqdm

    top, confidence = cascade
    needed = topics_needed(confidence)

    def by_topic() -> Iterator[list[Pair]]:
        for _, topic in groupby(pairs_of(read_run(source), plan, k), lambda pair: pair.place):
            pairs = list(topic)
            if len(pairs) > top:
                yield pairs

    drawn = nsmallest(needed, ((hashlib.sha256(pairs[0].topic.encode()).digest(), pairs[0].place, len(pairs)) for pairs in by_topic()))
    places = sorted(place for _, place, _ in drawn)

    resumed = frozenset(place for number, place in enumerate(places) if _PRUNER - 1 - number in journal.windows)

    def taken() -> Learnt:
        # Out of the journal's windows, since they are none of the run.
        pruner = Pruner.unpacked(journal.windows.pop(_PRUNER))
        return Learnt(pruner, {place: journal.windows.pop(_PRUNER - 1 - number) for number, place in enumerate(places)}, resumed)

    if _PRUNER in journal.windows:
        return taken()
    check_numbers(top, top + 1, confidence, len(places))
    current: Work | None = None

    def sample() -> Iterator[tuple[str, Sequence[str]]]:
        """One at a time: the texts of all would not fit."""
        nonlocal current
        chosen = set(places)
        for number, pairs in enumerate(pairs for pairs in by_topic() if pairs[0].place in chosen):
            current = work_of(_PRUNER - 1 - number, pairs, topics, documents)
            yield current.queries[0], current.passages

    def score(_: int) -> np.ndarray:
        assert current is not None
        if current.number not in journal.windows:
            scored = score_window(model, current)
            journal.add(scored.number, scored.scores, scored.passages_cut)
        return journal.windows[current.number]

    with tqdm(total=sum(count for _, _, count in drawn), unit="pair", desc="learning to prune", disable=quiet or not sys.stderr.isatty()) as bar:
        pruner = fitted(model, sample(), top, confidence, bar.update, score)
    journal.add(_PRUNER, pruner.packed())
    return taken()
