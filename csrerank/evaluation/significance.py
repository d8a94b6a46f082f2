"""Whether one run beats another: seeds averaged, paired tests with interval and effect size, and p-values corrected for their number."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from csrerank.errors import InputError
from csrerank.evaluation.paired import (
    DRAWS,
    SEED,
    Estimate,
    Floats,
    Resamples,
    Values,
    bootstrap_interval,
    bootstrap_p,
    check_values,
    estimated,
    paired,
    resampled,
    same_topics,
    sign_flip_p,
    t_statistic,
    t_test_p,
    units,
)

METHODS = ("holm", "bonferroni")


class Averaged(NamedTuple):
    """Values averaged over seeds within each topic, and the standard deviation (ddof 1) over seeds of the mean over topics; None for a single seed."""

    values: dict[str, float]
    spread: float | None


class PValues(NamedTuple):
    """Two-sided p-values of the paired t-test, the paired randomisation test and the paired bootstrap test."""

    t: float
    randomisation: float
    bootstrap: float


class Comparison(NamedTuple):
    """What :func:`compared` found.

    :param topics: how many
    :param clusters: how many; None where topics were taken for independent
    :param system, baseline: means over topics
    :param difference: system - baseline
    :param low, high: its confidence interval, by the bootstrap
    :param effect: Cohen's d_z over topics: mean / standard deviation (ddof 1) of the differences; infinite where all differ alike, 0 where none differs
    :param se, df: standard error and degrees of freedom of the t-test
    :param p: over clusters where they are given
    :param p_by_topic: as if topics were independent, where clusters are given: too small wherever a cluster's topics are alike
    """

    topics: int
    clusters: int | None
    system: float
    baseline: float
    difference: float
    low: float
    high: float
    effect: float
    se: float
    df: float
    p: PValues
    p_by_topic: PValues | None


def averaged(seeds: Sequence[Values]) -> Averaged:
    """Average the values of several seeds within each topic. InputError: no seed, seeds of different topics, or a value that is not finite."""
    if not seeds:
        raise InputError("no seed to average; give the values of at least one")
    for number, values in enumerate(seeds, 1):
        check_values(values, f"seed {number}")
        same_topics(seeds[0], values, "seed 1", f"seed {number}")
    means = {topic: math.fsum(values[topic] for values in seeds) / len(seeds) for topic in seeds[0]}
    spread = float(np.std([math.fsum(values.values()) / len(values) for values in seeds], ddof=1)) if len(seeds) > 1 else None
    return Averaged(means, spread)


def compared(
    system: Values, baseline: Values, clusters: Mapping[str, str] | None = None, *, confidence: float = 0.95, draws: int = DRAWS, seed: int = SEED
) -> Comparison:
    """Compare two runs topic by topic; with ``clusters`` (topic -> article) every test and the interval take whole clusters for the independent units.

    Formulas and sources: :func:`~csrerank.evaluation.paired.estimated` (t-test), :func:`~csrerank.evaluation.paired.sign_flip_p`,
    :func:`~csrerank.evaluation.paired.bootstrap_p`, :func:`~csrerank.evaluation.paired.bootstrap_interval`; which to use in IR: Smucker, Allan and
    Carterette (2007).

    InputError: other topics on one side, a topic without a cluster, fewer than two topics or clusters, or a value that is not finite.
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence {confidence}: give a level between 0 and 1, such as 0.95")
    if draws < 1:
        raise InputError(f"{draws} draws: give 1 or more, such as {DRAWS}")
    pairs = paired(system, baseline)
    sums, sizes = units(pairs, clusters)
    estimate, samples = estimated(sums, sizes), resampled(sums, sizes, draws, seed)
    low, high = bootstrap_interval(estimate, samples, confidence)
    by_topic = None
    if clusters is not None:
        single, ones = units(pairs, None)
        by_topic = _p_values(single, ones, estimated(single, ones), resampled(single, ones, draws, seed), draws, seed)
    return Comparison(
        topics=len(pairs.topics),
        clusters=None if clusters is None else len(sizes),
        system=float(pairs.system.mean()),
        baseline=float(pairs.baseline.mean()),
        difference=float(estimate.mean[0]),
        low=float(low[0]),
        high=float(high[0]),
        effect=_effect(pairs.differences),
        se=float(estimate.se[0]),
        df=estimate.df,
        p=_p_values(sums, sizes, estimate, samples, draws, seed),
        p_by_topic=by_topic,
    )


def corrected(p_values: Mapping[str, float], method: str = "holm") -> dict[str, float]:
    """Adjust p-values for their number, by Holm (1979) or Bonferroni: each may be set against the level as it is. Names keep their order.

    InputError: an unknown method, or a p-value outside [0, 1].
    """
    if method not in METHODS:
        raise InputError(f"correction {method!r} is not known; use one of {', '.join(METHODS)}")
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise InputError(f"p-value of {name!r} is {p}; give one between 0 and 1")
    if method == "bonferroni":
        return {name: min(1.0, len(p_values) * p) for name, p in p_values.items()}
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


def _p_values(sums: Floats, sizes: Floats, estimate: Estimate, samples: Resamples, draws: int, seed: int) -> PValues:
    return PValues(float(t_test_p(estimate)[0]), float(sign_flip_p(sums, draws, seed)[0]), float(bootstrap_p(sums, sizes, samples)[0]))


def _effect(differences: Floats) -> float:
    # Of single topics the standard error is the standard deviation over the root of their number.
    estimate = estimated(differences[None], np.ones(len(differences)))
    return float(t_statistic(estimate.mean, estimate.se)[0]) / math.sqrt(len(differences))
