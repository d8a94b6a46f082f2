"""What prunes a job with a cascade: learnt from some of its own topics, and kept in its journal, so that a stopped job goes on with it."""

import hashlib
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from csrerank.errors import InputError
from csrerank.journal import Journal
from csrerank.models.cascade import Pruner, fitted, topics_needed
from csrerank.models.precision import TRAINED
from csrerank.plan import Plan, pairs_of
from csrerank.trec import read_run
from csrerank.windows import Pair, Work, score_window

if TYPE_CHECKING:
    from csrerank.collections.texts import Documents, Topics
    from csrerank.models.reranker import Reranker, Settings

_PRUNER = 2**32 - 1  # its place among a journal's windows, and downwards from it those of the topics that it is learnt from


def check_cascade(settings: "Settings") -> None:
    """Raise ``InputError`` for a model whose scores are not learnt from: those of one kind would prune those of another."""
    if settings.windows is not None:
        raise InputError("--cascade does not go with --window; leave one out")
    if settings.precision not in TRAINED:
        raise InputError(f"--cascade does not go with --precision {settings.precision}; give auto, bf16 or fp32")


def pruner_of(
    source: str | Path,
    plan: Plan,
    topics: "Topics",
    documents: "Documents",
    model: "Reranker",
    k: int,
    cascade: tuple[int, float],
    journal: Journal,
    quiet: bool,
) -> tuple[Pruner, dict[int, np.ndarray]]:
    """What prunes the job: from its journal, or learnt from the first topics by a hash that have candidates enough. With it the scores of those topics, all by the
    whole model: float32 [pairs] by their places in the run.
    """
    from tqdm import tqdm

    top, confidence = cascade
    needed = topics_needed(confidence)

    def by_topic() -> Iterator[tuple[str, list[Pair]]]:
        for _, topic in groupby(pairs_of(read_run(source), plan, k), lambda pair: pair.place):
            pairs = list(topic)
            if len(pairs) > top:
                yield pairs[0].topic, pairs

    def taken() -> tuple[Pruner, dict[int, np.ndarray]]:
        # Out of the journal's windows, since they are none of the run.
        pruner = Pruner.unpacked(journal.windows.pop(_PRUNER))
        return pruner, {place: journal.windows.pop(_PRUNER - 1 - number) for number, place in enumerate(places)}

    chosen = set(sorted((topic for topic, _ in by_topic()), key=lambda topic: hashlib.sha256(topic.encode()).digest())[:needed])
    places = [pairs[0].place for topic, pairs in by_topic() if topic in chosen]
    if _PRUNER in journal.windows:
        return taken()
    sample: list[tuple[str, list[str]]] = []
    for topic, pairs in by_topic():
        if topic in chosen:
            texts = documents.texts(list(dict.fromkeys(pair.doc for pair in pairs)))
            sample.append((topics.texts[topic], [texts[pair.doc] for pair in pairs]))
    total = sum(len(passages) for _, passages in sample)

    def score(place: int) -> np.ndarray:
        number = _PRUNER - 1 - place
        if number not in journal.windows:
            query, passages = sample[place]
            scored = score_window(model, Work(number, [place] * len(passages), [query] * len(passages), passages))
            journal.add(number, scored.scores, scored.passages_cut)
        return journal.windows[number]

    with tqdm(total=total, unit="pair", desc="learning to prune", disable=quiet or not sys.stderr.isatty()) as bar:
        pruner = fitted(model, sample, top, confidence, bar.update, score)
    journal.add(_PRUNER, pruner.packed())
    return taken()
