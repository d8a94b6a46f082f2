"""Whether two runs are as good as each other: two one-sided tests against a margin, on the t statistic of :mod:`csrerank.evaluation.paired`."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from csrerank.errors import InputError
from csrerank.evaluation.paired import Estimate, Floats, Values, estimated, paired, t_statistic, units


class Equivalence(NamedTuple):
    """What :func:`equivalent` found.

    :param topics: how many
    :param clusters: how many; None where topics were taken for independent
    :param difference: mean over topics of system - baseline
    :param se, df: its standard error and degrees of freedom
    :param p_lower: of the test against a difference of -margin or less
    :param p_upper: of the test against a difference of margin or more
    :param low, high: the (1 - 2 alpha) interval; the runs are equivalent where it lies within the margin
    :param power: how often runs without any true difference would be found equivalent, with this standard error for the true one
    :param verdict: ``equivalent``, ``different`` or ``inconclusive``
    """

    topics: int
    clusters: int | None
    difference: float
    margin: float
    alpha: float
    se: float
    df: float
    p_lower: float
    p_upper: float
    low: float
    high: float
    power: float
    verdict: str


def equivalent(system: Values, baseline: Values, clusters: Mapping[str, str] | None = None, margin: float = 0.015, alpha: float = 0.05) -> Equivalence:
    """Test whether two runs differ by less than ``margin`` (in the measure's own units): two one-sided tests at ``alpha`` (Schuirmann 1987).

    ``equivalent``: both tests reject. ``different``: they do not, and the (1 - alpha) interval of the difference excludes 0. ``inconclusive``: neither, so
    there are too few topics to tell. With ``clusters`` (topic -> article) the statistic is :func:`~csrerank.evaluation.paired.estimated`'s.

    InputError: as :func:`~csrerank.evaluation.significance.compared`, or a margin or alpha that makes no sense.
    """
    from scipy.stats import t

    if not 0 < margin < math.inf:
        raise InputError(f"margin {margin}: give a difference above 0 that does not matter, such as 0.015")
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha {alpha}: give a level between 0 and 0.5, such as 0.05")
    pairs = paired(system, baseline)
    sums, sizes = units(pairs, clusters)
    estimate = estimated(sums, sizes)
    difference, se, df = float(estimate.mean[0]), float(estimate.se[0]), estimate.df
    p_lower, p_upper = (float(p[0]) for p in tost_p(estimate, margin))
    reach, wider = (float(t.ppf(1 - level, df)) * se for level in (alpha, alpha / 2))
    verdict = "equivalent" if max(p_lower, p_upper) < alpha else "different" if abs(difference) > wider else "inconclusive"
    return Equivalence(
        topics=len(pairs.topics),
        clusters=None if clusters is None else len(sizes),
        difference=difference,
        margin=margin,
        alpha=alpha,
        se=se,
        df=df,
        p_lower=p_lower,
        p_upper=p_upper,
        low=difference - reach,
        high=difference + reach,
        power=power(margin, se, df, alpha),
        verdict=verdict,
    )


def tost_p(estimate: Estimate, margin: float) -> tuple[Floats, Floats]:
    """One-sided p-values, each [rows], against a mean of -margin or less, and of margin or more."""
    from scipy.stats import t

    lower, upper = (t_statistic(estimate.mean + distance, estimate.se) for distance in (margin, -margin))
    return np.asarray(t.sf(lower, estimate.df)), np.asarray(t.cdf(upper, estimate.df))


def power(margin: float, se: float, df: float, alpha: float = 0.05, difference: float = 0.0) -> float:
    """Give the exact power of the two one-sided tests where the true difference is ``difference`` and the true standard error ``se`` (Phillips 1990).

    With the estimated error at u times the true one, u^2 being chi-squared(df) / df, both reject where the estimate lies within margin - t(1 - alpha, df) u se
    of 0. The normal probability of that is averaged over the quantiles of u, which is Owen's Q function without its cancellation.
    """
    from scipy.integrate import quad
    from scipy.stats import chi2, norm, t

    if se == 0:
        return float(abs(difference) < margin)
    critical = float(t.ppf(1 - alpha, df))
    share = float(chi2.cdf(df * (margin / (critical * se)) ** 2, df))  # of the samples: in the others no estimate would do

    def rejected(quantile: float) -> float:
        within = margin / se - critical * math.sqrt(chi2.ppf(quantile, df) / df)
        shift = difference / se
        return float(norm.cdf(within - shift) - norm.cdf(-within - shift))

    return float(quad(rejected, 0.0, share, limit=200)[0]) if share > 0 else 0.0
