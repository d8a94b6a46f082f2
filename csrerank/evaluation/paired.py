"""Paired differences of two runs, and the statistics on them, over topics or over clusters of topics that are not independent.

Everything is computed from the sums and sizes of independent units, which are the clusters, or single topics where there are no clusters. Sums are a
matrix [rows, units], so that many comparisons (a simulation's) are one call; a single comparison is a matrix of one row.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from csrerank.errors import InputError

Values = Mapping[str, float]
Floats = NDArray[np.float64]

SEED = 2023
DRAWS = 10_000
_EXACT_UNITS = 14
_BLOCK_CELLS = 1 << 21  # signs or counts held at once, 16 MB
_ROUNDING = 1e-12


class Paired(NamedTuple):
    """Topics in order of their ids, with both sides' values and their differences, arrays [topics]."""

    topics: list[str]
    system: Floats
    baseline: Floats
    differences: Floats


class Estimate(NamedTuple):
    """Mean differences [rows] with their standard errors [rows] and degrees of freedom; ``mean / se`` is t distributed."""

    mean: Floats
    se: Floats
    df: float


class Resamples(NamedTuple):
    """Bootstrap samples, arrays [rows, draws]: how far each one's mean lies from the mean of all, and its own standard error."""

    shifts: Floats
    errors: Floats


def paired(system: Values, baseline: Values) -> Paired:
    """Set two runs' values side by side, in the order of topic ids, so that no result depends on the order of a file.

    Values that differ by rounding only (1e-12 of themselves) differ by 0. InputError: other topics on one side, no topic, or a value that is not finite.
    """
    check_values(system, "the system")
    check_values(baseline, "the baseline")
    same_topics(system, baseline, "the system", "the baseline")
    topics = sorted(system)
    ours, theirs = (np.array([float(values[topic]) for topic in topics]) for values in (system, baseline))
    alike = np.abs(ours - theirs) <= _ROUNDING * np.maximum(np.abs(ours), np.abs(theirs))
    return Paired(topics, ours, theirs, np.where(alike, 0.0, ours - theirs))


def units(pairs: Paired, clusters: Mapping[str, str] | None) -> tuple[Floats, Floats]:
    """Sums of the differences [1, units] and numbers of topics [units] of each cluster in the order of their names, or of each topic without clusters.

    InputError: a topic without a cluster, or fewer than two units.
    """
    if clusters is None:
        if len(pairs.topics) < 2:
            raise InputError(f"{pairs.topics[0]!r} is the only topic, which tells nothing about others; give at least two")
        return pairs.differences[None], np.ones(len(pairs.topics))
    lacking = next((topic for topic in pairs.topics if topic not in clusters), None)
    if lacking is not None:
        raise InputError(f"topic {lacking!r} has no cluster; name the cluster of every topic")
    names, places = np.unique([clusters[topic] for topic in pairs.topics], return_inverse=True)
    if len(names) < 2:
        raise InputError(f"all topics are of cluster {str(names[0])!r}, which tells nothing about others; give topics of at least two, or no clusters")
    sums = np.asarray(np.bincount(places, weights=pairs.differences), dtype=np.float64)
    return sums[None], np.asarray(np.bincount(places), dtype=np.float64)


def estimated(sums: Floats, sizes: Floats) -> Estimate:
    """Estimate the mean over topics, and its cluster-robust standard error: of single topics this is the paired t-test, of clusters of one size the t-test
    on their means, of clusters of several sizes the bias-reduced estimator CR2 with Satterthwaite's degrees of freedom (Bell and McCaffrey 2002; Cameron
    and Miller 2015, section VI).

    In a regression on a constant it has a closed form: with the clusters' shares w = sizes / topics and residuals e = sums - sizes * mean, the variance is
    sum(e^2 / (1 - w)) / topics^2, and 1 / df = sum(w^2) + the sum over g != h of w_g^2 w_h^2 / ((1 - w_g) (1 - w_h)).

    :param sums: [rows, units]
    :param sizes: [units]
    """
    shares = sizes / sizes.sum()
    mean, residuals = _residuals(sums, sizes)
    se = np.sqrt((residuals**2 / (1 - shares)).sum(axis=1)) / sizes.sum()
    crossed = shares**2 / (1 - shares)
    return Estimate(mean, se, 1 / float((shares**2).sum() + crossed.sum() ** 2 - (crossed**2).sum()))


def t_statistic(distance: Floats, se: Floats) -> Floats:
    """``distance / se``, with 0 for 0 / 0 and an infinity for anything else over 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distance == 0, 0.0, distance / se)


def t_test_p(estimate: Estimate) -> Floats:
    """Two-sided p-values [rows] against a mean of 0."""
    from scipy.stats import t

    return np.asarray(2 * t.sf(np.abs(t_statistic(estimate.mean, estimate.se)), estimate.df))


def sign_flip_p(sums: Floats, draws: int = DRAWS, seed: int = SEED) -> Floats:
    """Two-sided p-values [rows] of Fisher's randomisation test: the share of sign flips of whole units whose sum is at least as far from 0.

    Up to 14 units every flip is counted; beyond, ``draws`` of them, and p = (k + 1) / (draws + 1) (Phipson and Smyth 2010).
    """
    count = sums.shape[1]
    # The same terms added in another order must count as the same sum.
    least = np.abs(sums.sum(axis=1)) - _ROUNDING * np.abs(sums).sum(axis=1)
    if count <= _EXACT_UNITS:
        flips = 2.0 * (np.arange(2**count)[:, None] >> np.arange(count) & 1) - 1
        return np.asarray((np.abs(sums @ flips.T) >= least[:, None]).mean(axis=1))
    generator = _generator(seed, "randomisation")
    reached = np.zeros(len(sums))
    for size in _blocks(draws, count):
        flips = 2.0 * generator.integers(2, size=(size, count)) - 1
        reached += (np.abs(sums @ flips.T) >= least[:, None]).sum(axis=1)
    return (reached + 1) / (draws + 1)


def resampled(sums: Floats, sizes: Floats, draws: int = DRAWS, seed: int = SEED) -> Resamples:
    """Draw bootstrap samples of as many whole units as there are, with replacement.

    A sample's mean is over its topics; its standard error is the cluster-robust one without CR2's weights, sqrt(units / (units - 1) * sum(e^2)) / topics.
    """
    generator, count = _generator(seed, "bootstrap"), len(sizes)
    _, residuals = _residuals(sums, sizes)
    shifts, errors = [], []
    for size in _blocks(draws, count):
        drawn = generator.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).T.astype(np.float64)
        topics = sizes @ times
        shift = residuals @ times / topics
        squares = residuals**2 @ times - 2 * shift * ((residuals * sizes) @ times) + shift**2 * (sizes**2 @ times)
        shifts.append(shift)
        errors.append(np.sqrt(np.maximum(squares, 0.0) * count / (count - 1)) / topics)
    return Resamples(np.concatenate(shifts, axis=1), np.concatenate(errors, axis=1))


def bootstrap_p(sums: Floats, sizes: Floats, samples: Resamples) -> Floats:
    """Two-sided p-values [rows] of the bootstrap test: how often the t statistic of a sample shifted to a mean of 0 is at least as far from 0 as the t
    statistic found (Sakai 2006); p = (k + 1) / (draws + 1).

    Unstudentised means, as in Smucker et al. (2007), reject a true null too often over few clusters.
    """
    mean, residuals = _residuals(sums, sizes)
    se = np.sqrt((residuals**2).sum(axis=1) * len(sizes) / (len(sizes) - 1)) / sizes.sum()
    found = np.abs(t_statistic(mean, se)) * (1 - _ROUNDING)
    reached = np.abs(t_statistic(samples.shifts, samples.errors)) >= found[:, None]
    return np.asarray((reached.sum(axis=1) + 1) / (reached.shape[1] + 1))


def bootstrap_interval(estimate: Estimate, samples: Resamples, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Lower and upper ends [rows] of the expanded percentile interval (Hesterberg 2015): percentiles of the samples' means, moved out from 2.5 and 97.5 so far
    that a normal mean is covered as often as by a t interval. Plain percentiles are too narrow over few units.
    """
    from scipy.stats import norm, t

    wider = math.sqrt((estimate.df + 1) / estimate.df) * t.ppf((1 + confidence) / 2, estimate.df)
    low, high = np.quantile(samples.shifts, [norm.cdf(-wider), norm.cdf(wider)], axis=1)
    return estimate.mean + low, estimate.mean + high


def same_topics(ours: Values, theirs: Values, our_name: str, their_name: str) -> None:
    """Raise InputError naming the first topic that only one side has."""
    odd = min(ours.keys() ^ theirs.keys(), default=None)
    if odd is not None:
        has, lacks = (our_name, their_name) if odd in ours else (their_name, our_name)
        raise InputError(f"topic {odd!r} is in {has}, but not in {lacks}; evaluate both with the same qrels")


def check_values(values: Values, name: str) -> None:
    """Raise InputError where there is no topic, or a value that is not finite."""
    if not values:
        raise InputError(f"no topic in {name}; give the values of at least one")
    for topic, value in values.items():
        if not math.isfinite(value):
            raise InputError(f"topic {topic!r} of {name} has the value {value}; give a finite one")


def _residuals(sums: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """Means over topics [rows] and ``sums - sizes * mean`` [rows, units]; what is left of differences that are all alike is rounding, and made 0."""
    mean = sums.sum(axis=1) / sizes.sum()
    residuals = sums - sizes * mean[:, None]
    return mean, np.where(np.abs(residuals) <= _ROUNDING * np.abs(sums), 0.0, residuals)


def _generator(seed: int, purpose: str) -> np.random.Generator:
    """Random numbers of their own for each purpose, so that one more test changes no other."""
    return np.random.default_rng([seed, *purpose.encode()])


def _blocks(draws: int, count: int) -> Iterator[int]:
    # By the number of units alone: many rows at once must see the draws that one row sees.
    size = max(1, min(1000, _BLOCK_CELLS // count))
    for start in range(0, draws, size):
        yield min(size, draws - start)
