"""Tests, intervals and effect sizes agree with hand computations and scipy, and reject a true null as often as they say, over clusters too."""

import math
import random
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from conftest import needs_real_data
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from csrerank.collections import en_qa
from csrerank.errors import InputError
from csrerank.evaluation.clusters import clusters_of
from csrerank.evaluation.equivalence import equivalent, power, tost_p
from csrerank.evaluation.paired import Floats, bootstrap_interval, bootstrap_p, estimated, paired, resampled, sign_flip_p, t_test_p, units
from csrerank.evaluation.significance import averaged, compared, corrected

# A warning of numpy's or scipy's fails the tests.
pytestmark = pytest.mark.filterwarnings("error")

SIMULATIONS = 10_000
ROOT = Path(__file__).parents[1]
# Topics an article in XQuAD-R, which test_xquad_r_has_48_articles_in_every_language holds to the collection.
ARTICLES = np.repeat([8, *range(16, 27), 30, 32, 35, 36, 39, 74], [1, 1, 1, 1, 2, 1, 5, 2, 7, 9, 11, 1, 1, 1, 1, 1, 1, 1])


def named(values: "list[float] | Floats") -> dict[str, float]:
    return {f"q{number:04}": float(value) for number, value in enumerate(values)}


def zeros(values: Mapping[str, float]) -> dict[str, float]:
    return dict.fromkeys(values, 0.0)


FIVE = named([0.02, -0.01, 0.03, 0.0, 0.01])  # mean .01, squares about it sum to .001: se = sqrt(.001 / 4 / 5)


# Seeds


def test_seeds_are_averaged_within_topics() -> None:
    seeds = [{"a": 0.5, "b": 0.25}, {"b": 0.75, "a": 0.5}, {"a": 0.5, "b": 0.5}]
    found = averaged(seeds)
    assert found.values == {"a": 0.5, "b": 0.5}
    assert found.spread == pytest.approx(0.125)  # of .375, .625, .5
    assert averaged(seeds[:1]) == (seeds[0], None)


def test_seeds_that_do_not_match_are_refused() -> None:
    with pytest.raises(InputError, match=r"^no seed to average; give the values of at least one$"):
        averaged([])
    with pytest.raises(InputError, match=r"^topic 'b' is in seed 2, but not in seed 1; evaluate both with the same qrels$"):
        averaged([{"a": 1.0}, {"a": 1.0, "b": 1.0}])
    with pytest.raises(InputError, match=r"^no topic in seed 2; give the values of at least one$"):
        averaged([{"a": 1.0}, {}])


# The t-test


def test_a_comparison_by_hand() -> None:
    found = compared(named([0.52, 0.49, 0.53, 0.5, 0.51]), named([0.5] * 5))
    assert (found.topics, found.clusters, found.p_by_topic) == (5, None, None)
    assert (found.system, found.baseline, found.difference) == pytest.approx((0.51, 0.5, 0.01))
    assert (found.se, found.df) == pytest.approx((math.sqrt(5e-5), 4))
    assert found.effect == pytest.approx(0.01 / math.sqrt(2.5e-4))
    # t = sqrt(2); the t distribution with 4 degrees of freedom has the closed form 1/2 + 3/8 x (1 - x^2 / 12), x = t / sqrt(1 + t^2 / 4).
    x = math.sqrt(2) / math.sqrt(1.5)
    assert found.p.t == pytest.approx(1 - 3 / 4 * x * (1 - x * x / 12))
    # Sums of +-2 +-1 +-3 +-1 that reach 5: 7 (1 way), 5 (2 ways: either 1 turned), and their opposites, of 16.
    assert found.p.randomisation == 6 / 16


@pytest.mark.parametrize("count", [2, 7, 300])
def test_single_topics_give_scipys_paired_t_test(count: int) -> None:
    rng = np.random.default_rng(count)
    ours, theirs = rng.random(count), rng.random(count)
    found, expected = compared(named(ours), named(theirs), draws=10), stats.ttest_rel(ours, theirs)
    assert found.p.t == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.df == pytest.approx(count - 1)
    assert found.effect == pytest.approx(expected.statistic / math.sqrt(count))


def test_clusters_of_one_size_give_the_t_test_on_their_means() -> None:
    values = np.random.default_rng(3).normal(0.1, 1, (6, 4))
    differences = named(values.ravel())
    clusters = {topic: f"article {place // 4}" for place, topic in enumerate(differences)}
    found, expected = compared(differences, zeros(differences), clusters, draws=10), stats.ttest_1samp(values.mean(axis=1), 0)
    assert (found.p.t, found.df, found.clusters) == pytest.approx((expected.pvalue, 5, 6))


def test_clusters_of_several_sizes_give_cr2_and_satterthwaite_of_the_regression() -> None:
    """Against the matrices of Bell and McCaffrey (2002): residuals of each cluster by (I - H)^(-1/2), H = X (X'X)^-1 X'."""
    sizes = [1, 2, 4, 6]
    values = np.random.default_rng(4).normal(size=sum(sizes))
    place, topics = np.repeat(range(4), sizes), len(values)
    hat = np.full((topics, topics), 1 / topics)
    inside = [place == cluster for cluster in range(4)]
    adjusted = [np.real(linalg.fractional_matrix_power(np.eye(size) - hat[rows][:, rows], -0.5)) for size, rows in zip(sizes, inside, strict=True)]
    # Row by cluster: what its part of the estimated variance squares, of the residuals M y.
    parts = np.array([np.ones(size) @ root @ (np.eye(topics) - hat)[rows] / topics for size, root, rows in zip(sizes, adjusted, inside, strict=True)])
    spread = parts @ parts.T
    found = estimated(np.bincount(place, weights=values)[None], np.array(sizes, dtype=float))
    assert found.mean[0] == pytest.approx(values.mean())
    assert found.se[0] ** 2 == pytest.approx(((parts @ values) ** 2).sum())
    assert found.df == pytest.approx(np.trace(spread) ** 2 / np.trace(spread @ spread))


# Randomisation and bootstrap


@pytest.mark.parametrize("count", [2, 5, 10])
def test_the_exact_randomisation_test_is_scipys(count: int) -> None:
    differences = np.random.default_rng(count).choice([0.0, 0.5, -0.5, 1 / 3, 1.0], count)
    expected = stats.permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(differences[None])[0] == pytest.approx(expected.pvalue)


def test_beyond_14_units_randomisation_draws() -> None:
    same = np.full((1, 14), 0.1)
    assert sign_flip_p(same, draws=3)[0] == 2 / 2**14
    assert sign_flip_p(np.full((1, 15), 0.1), draws=999)[0] == 1 / 1000
    differences = np.random.default_rng(5).normal(0.4, 1, 16)
    exact = stats.permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    drawn = sign_flip_p(differences[None])[0]
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact / 10_000)) and drawn * 10_001 == pytest.approx(round(drawn * 10_001))
    assert sign_flip_p(differences[None], seed=1)[0] != drawn == sign_flip_p(differences[None])[0]


def test_clusters_flip_whole() -> None:
    differences = named([0.1, 0.3, -0.1, 0.2, 0.3, 0.1])
    clusters = dict(zip(differences, "aabbcc", strict=True))
    # The sums .4, .1, .4 reach .9 with one sign only; 2 and -1 reach 1 with any.
    assert compared(differences, zeros(differences), clusters, draws=10).p.randomisation == 2 / 8
    uneven = {"q0000": 1.0, "q0001": 1.0, "q0002": -1.0}
    assert compared(uneven, zeros(uneven), {"q0000": "a", "q0001": "a", "q0002": "b"}, draws=10).p.randomisation == 1.0


def test_bootstrap_samples_are_scipys_in_distribution() -> None:
    values = np.random.default_rng(6).exponential(size=40)
    samples = resampled(values[None], np.ones(40), 20_000)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", random_state=1)
    assert samples.shifts.std() == pytest.approx(expected.standard_error, rel=0.02)
    interval = values.mean() + np.quantile(samples.shifts[0], [0.025, 0.975])
    assert interval == pytest.approx(list(expected.confidence_interval), abs=0.05 * expected.standard_error)


def test_bootstrap_errors_are_those_of_each_sample() -> None:
    """Every sample of three clusters, found by its shift, has the standard error that its own topics give."""
    sums, sizes = np.array([3.0, -1.0, 4.5]), np.array([2.0, 1.0, 4.0])
    samples = resampled(sums[None], sizes, 2_000)
    mean = sums.sum() / sizes.sum()
    expected = {}
    for drawn in np.ndindex(3, 3, 3):
        chosen, weights = sums[list(drawn)], sizes[list(drawn)]
        own = chosen.sum() / weights.sum()
        expected[round(own - mean, 9)] = math.sqrt(1.5 * ((chosen - weights * own) ** 2).sum()) / weights.sum()
    assert {round(float(shift), 9) for shift in samples.shifts[0]} == set(expected)
    for shift, error in zip(samples.shifts[0], samples.errors[0], strict=True):
        assert error == pytest.approx(expected[round(float(shift), 9)], abs=1e-7)


def test_the_bootstrap_test_counts_t_statistics_beyond() -> None:
    """Against all 4^4 samples of four topics."""
    values = np.array([0.5, 0.1, -0.2, 0.8])
    every = values[np.array(list(np.ndindex(4, 4, 4, 4)))]
    error = every.std(axis=1, ddof=1)
    with np.errstate(divide="ignore"):
        beyond = np.abs(np.where(error < 1e-9, np.inf, (every.mean(axis=1) - 0.3) / error)) >= 0.3 / values.std(ddof=1) - 1e-9
    samples = resampled(values[None], np.ones(4), 40_000)
    assert bootstrap_p(values[None], np.ones(4), samples)[0] == pytest.approx(beyond.mean(), abs=0.01)


def test_the_interval_moves_percentiles_out_as_far_as_a_t_interval() -> None:
    """Ten topics: t(.975, 9) = 2.262157, times sqrt(10 / 9) 2.384530, beyond which a normal distribution has .00855."""
    values = np.random.default_rng(7).normal(size=5)
    sums, sizes = np.concatenate([values, -values])[None], np.ones(10)
    estimate, samples = estimated(sums, sizes), resampled(sums, sizes, 20_000)
    low, high = bootstrap_interval(estimate, samples)
    assert (samples.shifts < low[0]).mean() == pytest.approx(0.00855, abs=1e-4)
    assert (samples.shifts > high[0]).mean() == pytest.approx(0.00855, abs=1e-4)
    # These lie even about 0, so a t interval is as wide.
    assert (low[0], high[0]) == pytest.approx(stats.t.interval(0.95, 9, 0, estimate.se[0]), rel=0.05)
    narrow, wide = bootstrap_interval(estimate, samples, 0.8), bootstrap_interval(estimate, samples, 0.99)
    assert wide[0] < low < narrow[0] < narrow[1] < high < wide[1]


# What no order, sign or seed may change


def test_no_difference_is_p_1_and_no_nan() -> None:
    same = named([0.1, 0.5, 0.3])
    for clusters in (None, {"q0000": "a", "q0001": "a", "q0002": "b"}):
        found = compared(same, dict(same), clusters)
        assert found.p == (1.0, 1.0, 1.0) and found.p_by_topic in (None, (1.0, 1.0, 1.0))
        assert (found.difference, found.low, found.high, found.effect, found.se) == (0, 0, 0, 0, 0)


def test_differences_that_are_all_alike() -> None:
    found = compared(named([0.3, 0.4, 0.8]), named([0.2, 0.3, 0.7]))  # equal up to rounding
    assert found.p == (0.0, 2 / 8, 1 / 10_001)
    assert found.effect == math.inf and found.low == found.high == found.difference == pytest.approx(0.1)


def test_rounding_is_no_difference() -> None:
    found = compared(named([0.1 + 0.2, 0.7]), named([0.3, 0.1 * 7]))
    assert found.difference == 0 and found.p == (1.0, 1.0, 1.0)


marks = st.lists(st.sampled_from([0.0, 0.1, 0.2, 1 / 3, 0.5, 1.0]), min_size=4, max_size=18)


@settings(max_examples=60, deadline=None)
@given(ours=marks, theirs=marks, names=st.lists(st.sampled_from("abc"), min_size=18, max_size=18), shuffled=st.randoms(use_true_random=False))
def test_swapped_sides_and_other_orders(ours: list[float], theirs: list[float], names: list[str], shuffled: random.Random) -> None:
    count = min(len(ours), len(theirs))
    system, baseline = named(ours[:count]), named(theirs[:count])
    clusters = dict(zip(system, ["d", *names], strict=False)) | {"q0001": "a"}
    found, turned = compared(system, baseline, clusters, draws=300), compared(baseline, system, clusters, draws=300)
    assert turned.p == pytest.approx(found.p) and turned.p_by_topic == pytest.approx(found.p_by_topic)
    assert (turned.difference, turned.effect) == pytest.approx((-found.difference, -found.effect))
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-12)
    assert found.low <= found.high and all(0 <= p <= 1 for p in (*found.p, *(found.p_by_topic or ())))
    order = list(system)
    shuffled.shuffle(order)
    assert compared({topic: system[topic] for topic in order}, baseline, {topic: clusters[topic] for topic in reversed(order)}, draws=300) == found
    ours_first, theirs_first = equivalent(system, baseline, clusters, 0.1), equivalent(baseline, system, clusters, 0.1)
    assert (ours_first.p_lower, ours_first.p_upper) == pytest.approx((theirs_first.p_upper, theirs_first.p_lower))
    assert ours_first.verdict == theirs_first.verdict
    assert (ours_first.low > -0.1 and ours_first.high < 0.1) == (max(ours_first.p_lower, ours_first.p_upper) < 0.05)


def test_clusters_of_single_topics_change_nothing() -> None:
    values = named(np.random.default_rng(8).normal(size=20))
    with_clusters, without = compared(values, zeros(values), {topic: topic for topic in values}), compared(values, zeros(values))
    assert with_clusters.p == with_clusters.p_by_topic == without.p
    assert (with_clusters.low, with_clusters.high) == (without.low, without.high)


def test_many_rows_give_what_each_gives_alone() -> None:
    sizes = np.array([3.0, 1.0, 5.0] + [2.0] * 20)
    sums = np.random.default_rng(9).normal(size=(4, 23)) * sizes
    for draws in (50, 2_345):
        samples = resampled(sums, sizes, draws)
        inner = np.transpose([t_test_p(estimated(sums, sizes)), sign_flip_p(sums, draws), bootstrap_p(sums, sizes, samples)])
        low, high = bootstrap_interval(estimated(sums, sizes), samples)
        lower, upper = tost_p(estimated(sums, sizes), 0.3)
        for row, expected in enumerate(inner):
            differences, clusters = {}, {}
            for place, (total, size) in enumerate(zip(sums[row], sizes, strict=True)):
                for topic in range(int(size)):
                    differences[f"{place:02}-{topic}"], clusters[f"{place:02}-{topic}"] = total / size, f"{place:02}"
            found = compared(differences, zeros(differences), clusters, draws=draws)
            assert found.p == pytest.approx(tuple(expected))
            assert (found.low, found.high) == pytest.approx((low[row], high[row]))
            same = equivalent(differences, zeros(differences), clusters, 0.3)
            assert (same.p_lower, same.p_upper) == pytest.approx((lower[row], upper[row]))


@pytest.mark.parametrize(
    ("system", "baseline", "clusters", "message"),
    [
        (
            {"a": 1.0, "b": 0.0, "c": 0.0},
            {"a": 1.0, "b": 0.0, "d": 0.0},
            None,
            "topic 'c' is in the system, but not in the baseline; evaluate both with the same qrels",
        ),
        (
            {"a": 1.0, "b": 0.0},
            {"a": 1.0, "b": 0.0, "aa": 0.0},
            None,
            "topic 'aa' is in the baseline, but not in the system; evaluate both with the same qrels",
        ),
        ({}, {}, None, "no topic in the system; give the values of at least one"),
        ({"a": 1.0}, {"a": 1.0}, None, "'a' is the only topic, which tells nothing about others; give at least two"),
        ({"a": 1.0, "b": math.nan}, {"a": 1.0, "b": 0.0}, None, "topic 'b' of the system has the value nan; give a finite one"),
        ({"a": 1.0, "b": 0.0}, {"a": math.inf, "b": 0.0}, None, "topic 'a' of the baseline has the value inf; give a finite one"),
        ({"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 0.0}, {"a": "x"}, "topic 'b' has no cluster; name the cluster of every topic"),
        (
            {"a": 1.0, "b": 0.0},
            {"a": 1.0, "b": 0.0},
            {"a": "x", "b": "x"},
            "all topics are of cluster 'x', which tells nothing about others; give topics of at least two, or no clusters",
        ),
    ],
)
def test_values_that_cannot_be_compared(system: dict[str, float], baseline: dict[str, float], clusters: dict[str, str] | None, message: str) -> None:
    for test in (compared, equivalent):
        with pytest.raises(InputError) as error:
            test(system, baseline, clusters)
        assert str(error.value) == message


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compared(FIVE, FIVE, confidence=95), "confidence 95: give a level between 0 and 1, such as 0.95"),
        (lambda: compared(FIVE, FIVE, draws=0), "0 draws: give 1 or more, such as 10000"),
        (lambda: equivalent(FIVE, FIVE, margin=0), "margin 0: give a difference above 0 that does not matter, such as 0.015"),
        (lambda: equivalent(FIVE, FIVE, margin=math.inf), "margin inf: give a difference above 0 that does not matter, such as 0.015"),
        (lambda: equivalent(FIVE, FIVE, alpha=0.5), "alpha 0.5: give a level between 0 and 0.5, such as 0.05"),
        (lambda: corrected({"a": 0.1}, "sidak"), "correction 'sidak' is not known; use one of holm, bonferroni"),
        (lambda: corrected({"a": 0.1, "b": 1.2}), "p-value of 'b' is 1.2; give one between 0 and 1"),
        (lambda: corrected({"a": math.nan}, "bonferroni"), "p-value of 'a' is nan; give one between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == message


# Corrections


def test_corrections_by_hand() -> None:
    p_values = {"ml-cs": 0.01, "wiki-cs": 0.04, "bl-cs": 0.03, "best": 0.005}
    assert corrected(p_values) == pytest.approx({"ml-cs": 0.03, "wiki-cs": 0.06, "bl-cs": 0.06, "best": 0.02})
    assert list(corrected(p_values)) == list(p_values)
    assert corrected(p_values, "bonferroni") == pytest.approx({"ml-cs": 0.04, "wiki-cs": 0.16, "bl-cs": 0.12, "best": 0.02})
    assert corrected({"a": 0.6, "b": 0.5}) == {"a": 1.0, "b": 1.0} == corrected({"a": 0.6, "b": 0.5}, "bonferroni")
    assert corrected({"a": 0.2}) == {"a": 0.2} and corrected({}) == {}


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8))
def test_corrections_keep_the_order_and_holm_is_never_larger(p_values: dict[str, float]) -> None:
    holm, bonferroni = corrected(p_values), corrected(p_values, "bonferroni")
    assert all(p_values[name] <= holm[name] <= bonferroni[name] <= 1 for name in p_values)
    for name in p_values:
        assert all(holm[name] <= holm[other] for other in p_values if p_values[name] <= p_values[other])


# Equivalence


def test_two_one_sided_tests_by_hand() -> None:
    """t = .04 / se = 4 sqrt(2) and -.02 / se = -2 sqrt(2), 4 degrees of freedom: 1/2 - 3/8 x (1 - x^2 / 12) with x^2 = 32/9 and 8/3."""
    found = equivalent(FIVE, zeros(FIVE), margin=0.03)
    assert found.p_lower == pytest.approx(0.5 - 3 / 8 * math.sqrt(32 / 9) * (1 - 32 / 108))
    assert found.p_upper == pytest.approx(0.5 - 3 / 8 * math.sqrt(8 / 3) * (1 - 8 / 36)) == pytest.approx(0.02371, abs=1e-5)
    assert (found.low, found.high) == pytest.approx((0.01 - 2.131847 * math.sqrt(5e-5), 0.01 + 2.131847 * math.sqrt(5e-5)))
    assert (found.verdict, found.margin, found.alpha, found.topics, found.clusters) == ("equivalent", 0.03, 0.05, 5, None)


def test_verdicts() -> None:
    higher = {topic: value + 0.05 for topic, value in FIVE.items()}
    assert equivalent(FIVE, zeros(FIVE), margin=0.012).verdict == "inconclusive"
    assert equivalent(higher, zeros(FIVE), margin=0.03).verdict == "different"
    assert equivalent(zeros(FIVE), higher, margin=0.03).verdict == "different"
    # t = 1.414 lies between t(.85) = 1.190 and t(.9) = 1.533: the 70 % interval excludes 0, the 80 % one does not.
    assert equivalent(FIVE, zeros(FIVE), margin=0.005, alpha=0.2).verdict == "inconclusive"
    assert equivalent(FIVE, zeros(FIVE), margin=0.005, alpha=0.3).verdict == "different"
    small = named([0.01, 0.0101, 0.0099, 0.01])
    assert equivalent(small, zeros(small)).verdict == "equivalent"  # a difference that is there, and too small to matter
    same = equivalent(FIVE, dict(FIVE))
    assert (same.verdict, same.p_lower, same.p_upper, same.power, same.low, same.high) == ("equivalent", 0.0, 0.0, 1.0, 0.0, 0.0)
    shifted = equivalent(named([1.0, 1.0]), named([0.0, 0.0]), margin=0.5)
    assert (shifted.verdict, shifted.p_upper, shifted.power) == ("different", 1.0, 1.0)


def test_power_is_the_published_one() -> None:
    """The 2x2 crossover of PowerTOST's documentation (Labes et al.): CV .3, ratio .95, limits .8 and 1.25, 40 subjects: 0.8158453."""
    sigma = math.sqrt(math.log(1.09))
    assert power(math.log(1.25), sigma * math.sqrt(2 / 40), 38, 0.05, math.log(0.95)) == pytest.approx(0.8158453, abs=5e-8)


@pytest.mark.parametrize(("margin", "df"), [(2.5, 9), (3.5, 40), (1.0, 5), (0.5, 1), (20.0, 1200)])
def test_power_is_what_simulations_find(margin: float, df: int) -> None:
    rng = np.random.default_rng(df)
    mean, error = rng.normal(size=400_000), np.sqrt(rng.chisquare(df, 400_000) / df)
    found = (np.abs(mean) < margin - stats.t.ppf(0.95, df) * error).mean()
    assert power(margin, 1.0, df) == pytest.approx(found, abs=0.004)


def test_the_power_given_is_that_of_the_standard_error_found() -> None:
    found = equivalent(FIVE, zeros(FIVE), margin=0.03)
    assert found.power == power(0.03, found.se, found.df) and 0.7 < found.power < 1
    assert power(1e-9, 1.0, 5) == pytest.approx(0, abs=1e-9) and power(0.1, 0.0, 5) == 1 and power(0.1, 0.0, 5, difference=0.2) == 0


# A true null is rejected as often as the level says


def normal(values: Floats) -> Floats:
    return values


def reciprocal_ranks(values: Floats) -> Floats:
    """Differences as those of RR@10: most are 0, the others a few fractions."""
    return np.sign(values) * np.select([np.abs(values) > 2, np.abs(values) > 1.6, np.abs(values) > 1.2], [0.75, 0.5, 1 / 3], 0.0)


def simulated(sizes: "np.ndarray", correlation: float, shape: Callable[[Floats], Floats], seed: int) -> Iterator[Floats]:
    """Differences [1000, topics], ten times: standard normal within and between clusters, with this correlation inside a cluster, given their shape."""
    rng = np.random.default_rng(seed)
    for _ in range(SIMULATIONS // 1000):
        between = np.repeat(rng.normal(size=(1000, len(sizes))), sizes, axis=1)
        yield shape(math.sqrt(correlation) * between + math.sqrt(1 - correlation) * rng.normal(size=(1000, int(sizes.sum()))))


def by_cluster(differences: Floats, sizes: "np.ndarray") -> Floats:
    return np.add.reduceat(differences, np.concatenate([[0], np.cumsum(sizes)[:-1]]), axis=1)


def rejected(sums: Floats, sizes: Floats, draws: int = 999) -> Floats:
    """How many rows each test rejects at .05, and how many intervals leave out 0: t, randomisation, bootstrap, interval."""
    estimate, samples = estimated(sums, sizes), resampled(sums, sizes, draws)
    low, high = bootstrap_interval(estimate, samples)
    p_values = [t_test_p(estimate), sign_flip_p(sums, draws), bootstrap_p(sums, sizes, samples)]
    return np.array([*((p <= 0.05).sum() for p in p_values), ((low > 0) | (high < 0)).sum()])


@pytest.mark.parametrize(("topics", "shape"), [(12, normal), (50, normal), (200, reciprocal_ranks)])
def test_independent_topics(topics: int, shape: Callable[[Floats], Floats]) -> None:
    sizes = np.ones(topics, dtype=int)
    errors = sum(rejected(values, np.ones(topics)) for values in simulated(sizes, 0.0, shape, 1)) / SIMULATIONS
    assert (errors > 0.04).all() and (errors < 0.06).all(), errors


def test_few_topics_that_differ() -> None:
    """Three of twelve topics differ on average, in a few fractions: no test is exact then, and none rejects too often."""
    errors = sum(rejected(values, np.ones(12))[:3] for values in simulated(np.ones(12, dtype=int), 0.0, reciprocal_ranks, 1)) / SIMULATIONS
    assert (errors < 0.05).all(), errors


@pytest.mark.parametrize("shape", [normal, reciprocal_ranks])
@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.4])
def test_correlated_topics_in_clusters_of_several_sizes(correlation: float, shape: Callable[[Floats], Floats]) -> None:
    errors, by_topic = np.zeros(4), 0
    for differences in simulated(ARTICLES, correlation, shape, 2):
        errors += rejected(by_cluster(differences, ARTICLES), ARTICLES.astype(float))
        by_topic += int((t_test_p(estimated(differences, np.ones(differences.shape[1]))) <= 0.05).sum())
    assert (errors > 0.04 * SIMULATIONS).all() and (errors < 0.06 * SIMULATIONS).all(), errors
    # Why there are clusters: as single topics, the same differences are found significant where there is nothing.
    assert by_topic > 0.1 * SIMULATIONS if correlation else 0.04 * SIMULATIONS < by_topic < 0.06 * SIMULATIONS


def test_few_clusters_of_very_different_sizes() -> None:
    sizes = np.linspace(5, 40, 15).astype(int)
    errors = sum(rejected(by_cluster(values, sizes), sizes.astype(float)) for values in simulated(sizes, 0.1, normal, 3)) / SIMULATIONS
    assert (errors > 0.04).all() and (errors < 0.065).all(), errors


@pytest.mark.parametrize("correlation", [0.0, 0.2])
@pytest.mark.parametrize("shape", [normal, reciprocal_ranks])
def test_equivalence_at_the_edge_of_the_margin(correlation: float, shape: Callable[[Floats], Floats]) -> None:
    """A true difference of just the margin must not be found equivalent more often than alpha; no difference, as often as the power says."""
    sizes = ARTICLES.astype(float)
    estimates = [estimated(by_cluster(values, ARTICLES), sizes) for values in simulated(ARTICLES, correlation, shape, 4)]
    true_error = float(np.concatenate([estimate.mean for estimate in estimates]).std())
    margin = 3.5 * true_error
    at_edge = at_zero = 0
    for estimate in estimates:
        at_zero += int((np.maximum(*tost_p(estimate, margin)) < 0.05).sum())
        at_edge += int((np.maximum(*tost_p(estimate._replace(mean=estimate.mean + margin), margin)) < 0.05).sum())
    assert 0.04 < at_edge / SIMULATIONS < 0.06
    assert at_zero / SIMULATIONS == pytest.approx(power(margin, true_error, estimates[0].df), abs=0.02)


# Articles


def test_the_demo_collection_has_subjects() -> None:
    topics = ["whales-q2", "tea-q1", "whales-q1"]
    assert clusters_of("csrerank/demo/en-de", topics) == {"whales-q2": "whales", "tea-q1": "tea", "whales-q1": "whales"}
    assert clusters_of("csrerank/demo/x8-x8", topics) == clusters_of("csrerank/demo/en-de", topics)
    with pytest.raises(InputError, match=r"^csrerank/demo/en-de has no topic 'whales-q9'; name the collection that the run was made from$"):
        clusters_of("csrerank/demo/en-de", ["whales-q9"])


def test_collections_without_articles_have_no_clusters() -> None:
    assert clusters_of("csrerank/mmarco/en-de/dev/small", ["2"]) is None
    assert clusters_of("csrerank/xor-retrieve/ja-en/dev", ["1"]) is None
    assert clusters_of("msmarco-passage/dev/small", ["2"]) is None
    with pytest.raises(InputError, match=r"^unknown dataset 'csrerank/nowhere'"):
        clusters_of("csrerank/nowhere", ["2"])


def test_en_qa_has_titles(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = en_qa.Passage("wiki-0", "Salt lamps", "Salt glows.", ((0, 11),))

    def questions(sources: tuple[str, ...]) -> en_qa.Questions:
        asked = [en_qa.Question("core" if sources == en_qa.CORE else "shift", "What glows?", whole, frozenset({0}))]
        return en_qa.Questions(asked, 0, 0, en_qa.Overlap(0, 0, 0))

    monkeypatch.setattr(en_qa, "questions", questions)
    for dataset in ("csrerank/en-qa/validation", "csrerank/en-qa/paragraphs/train/ml-cs", "csrerank/en-qa/validation/muse/en-de"):
        assert clusters_of(dataset, ["core"]) == {"core": "Salt lamps"}
    assert clusters_of("csrerank/en-qa/shifts/validation", ["shift"]) == {"shift": "Salt lamps"}


@needs_real_data
def test_xquad_r_has_48_articles_in_every_language() -> None:
    from csrerank.collections.catalogue import load
    from csrerank.evaluation.scoring import dataset_qrels

    topics = [topic.query_id for topic in load("csrerank/xquad-r/en-de").queries_iter()]
    found = clusters_of("csrerank/xquad-r/en-de", topics)
    assert found is not None and list(found) == topics and len(topics) == 1190
    sizes = np.unique(list(found.values()), return_counts=True)[1]
    assert sorted(sizes) == ARTICLES.tolist() and len(sizes) == 48
    for dataset in ("csrerank/xquad-r/zh-th", "csrerank/xquad-r/x4-x4", "csrerank/xquad-r/en-en/paragraphs", "csrerank/xquad-r/de-en/translate-test"):
        assert clusters_of(dataset, topics) == found
    qrels = dataset_qrels("csrerank/xquad-r/en-de")
    assert {found[topic] for topic in topics} == {next(iter(grades))[:2] for grades in qrels.values()}


@needs_real_data
def test_the_documented_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(compile(example, "docs/statistics.md", "exec"), {})
    difference, corrections, verdict = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"[+-]0\.\d{4} \[[+-]0\.\d{4}, [+-]0\.\d{4}\] over 48 articles, p = .+", difference)
    assert re.fullmatch(r"\{'en-ar': .+, 'en-de': .+, 'de-ru': .+\}", corrections)
    assert re.fullmatch(r"(equivalent|different|inconclusive), power [01]\.\d\d", verdict)


def test_units_are_in_the_order_of_their_names() -> None:
    pairs = paired({"b": 1.0, "a": 0.25, "c": 0.5}, {"c": 0.0, "b": 0.5, "a": 0.5})
    assert pairs.topics == ["a", "b", "c"] and pairs.differences.tolist() == [-0.25, 0.5, 0.5]
    sums, sizes = units(pairs, {"a": "z", "b": "y", "c": "z", "unasked": "x"})
    assert sums.tolist() == [[0.5, 0.25]] and sizes.tolist() == [1, 2]
