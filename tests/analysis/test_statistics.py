"""Intervals that cover as often as they say, tests that err as seldom as they say, formulas against their source."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from src.analysis.effects import interactions, main_effects
from src.analysis.statistics import (
    equivalence_p,
    hedges_g_av,
    holm,
    mean_over_seeds,
    seeds_needed,
    superiority,
    verdicts,
)
from tests.made_up import grid_of

SWEEPS = 4000


def verdicts_on(differences: Any, smallest_effect: float | None) -> Any:
    """On paired differences ``[..., n]``, each a comparison by itself."""
    return verdicts(mean_over_seeds(differences).p, equivalence_p(differences, smallest_effect))


def simulated(seeds: int) -> np.ndarray:
    """Accuracies ``[sweeps, 2 optimisers, 3 augmentations, seeds]`` of sweeps whose truth is known.

    A seed is lucky as a whole, and in every run by itself; the second optimiser is better by 0.02 on average, by 0.05
    with the last augmentation, and scatters less.
    """
    rng = np.random.default_rng(0)
    truth = np.array([[0.60, 0.65, 0.70], [0.605, 0.655, 0.75]])
    seed = rng.normal(0, 0.02, (SWEEPS, 1, 1, seeds))
    run = rng.normal(0, 1, (SWEEPS, 2, 3, seeds)) * np.array([0.02, 0.01])[:, None, None]
    return truth[..., None] + seed + run


def covered(differences: np.ndarray, truth: float) -> float:
    mean = mean_over_seeds(differences)
    return float(((mean.low <= truth) & (truth <= mean.high)).mean())


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_cover_the_truth_as_often_as_they_say(seeds: int) -> None:
    scores = simulated(seeds)
    low, high = stats.binom.ppf([0.0005, 0.9995], SWEEPS, 0.95) / SWEEPS
    effects = scores[:, 1] - scores[:, 0]
    assert low <= covered(effects.mean(1), 0.02) <= high  # averaged over augmentations
    assert low <= covered(effects[:, 2], 0.05) <= high  # at the last one
    assert low <= covered(effects[:, 2] - effects[:, 0], 0.045) <= high  # the interaction
    assert low <= covered(scores[:, 0, 0], 0.60) <= high  # a configuration


def test_what_was_simulated_is_what_reports_compute() -> None:
    scores = simulated(3)[0]
    grid = grid_of({"optim": ["sgd", "adam"], "aug": ["none", "basic", "ta"]}, [1, 2, 3], scores)
    effects = scores[1] - scores[0]
    (main,) = (row for row in main_effects(grid).itertuples() if row.factor == "optim")
    assert (main.difference, main.low, main.high, main.p) == pytest.approx(mean_over_seeds(effects.mean(0))[1:])
    crossed = interactions(grid).iloc[1]
    expected = mean_over_seeds(effects[2] - effects[0])
    assert (crossed.difference, crossed.low, crossed.high, crossed.p) == pytest.approx(expected[1:])


def test_without_any_effect_a_family_raises_an_alarm_in_one_of_twenty_sweeps() -> None:
    """Three comparisons, independent of each other; uncorrected, it would be one of seven."""
    differences = np.random.default_rng(1).normal(0, 0.01, (2000, 3, 3))
    p = mean_over_seeds(differences).p
    for family in p[:3]:  # the correction itself takes its time
        assert holm(family).min() == pytest.approx(min(3 * family.min(), 1))
    alarms = (3 * p.min(1) < 0.05).mean()
    low, high = stats.binom.ppf([0.0005, 0.9995], len(p), 1 - (1 - 0.05 / 3) ** 3) / len(p)
    assert low <= alarms <= high
    assert (p.min(1) < 0.05).mean() > 0.12


def test_the_test_is_the_paired_one() -> None:
    baseline, treated = np.random.default_rng(2).normal(0.7, 0.02, (2, 6, 4))
    theirs = stats.ttest_rel(treated, baseline, axis=-1)
    ours = mean_over_seeds(treated - baseline)
    assert ours.p == pytest.approx(theirs.pvalue)
    interval = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_one_seed_has_no_interval_and_equal_seeds_have_no_test() -> None:
    one = mean_over_seeds([0.5])
    assert one.n == 1 and one.mean == 0.5 and np.isnan([one.low, one.high, one.p]).all()
    same = mean_over_seeds([0.1, 0.1 + 1e-16, 0.1])
    assert (same.low, same.high) == (pytest.approx(0.1), pytest.approx(0.1)) and np.isnan(same.p)


def test_holm_leaves_out_what_was_not_tested() -> None:
    corrected = holm([0.01, np.nan, 0.04, 0.03])
    assert corrected == pytest.approx([0.03, np.nan, 0.06, 0.06], nan_ok=True)
    assert np.isnan(holm([np.nan])).all() and not len(holm([]))
    for family in np.random.default_rng(8).beta(0.3, 2, (2, 7)):
        assert holm(family) == pytest.approx(multipletests(family, method="holm")[1])


def test_effect_size_is_the_published_formula() -> None:
    """Lakens 2013: d_av divides by the average standard deviation; g_av corrects it by 1 - 3 / (4 (n1 + n2) - 9)."""
    baseline, treated = [0.50, 0.52, 0.54], [0.60, 0.61, 0.62]
    assert hedges_g_av(baseline, treated) == pytest.approx(0.09 / 0.015 * (1 - 3 / (4 * 6 - 9)))
    assert np.isnan(hedges_g_av([0.5], [0.6])) and np.isnan(hedges_g_av([0.5, 0.5], [0.6, 0.6]))


def test_seeds_needed() -> None:
    large, small = [0.10, 0.11, 0.09], [0.010, 0.030, -0.010]
    assert seeds_needed(large) == 3  # ten standard deviations
    assert 30 <= seeds_needed(small) <= 40  # half of one; 34 in the tables
    assert seeds_needed([0.1, 0.2]) is None and seeds_needed([0.1, 0.1, 0.1]) is None
    assert seeds_needed([1e-6, 0.1, -0.1]) is None


@pytest.mark.parametrize("effect", [0.5, 1.0, 2.336, 3.0])  # at 2.336 scipy has no number for 289 seeds
def test_as_many_seeds_are_needed_as_a_search_from_below_finds(effect: float) -> None:
    differences = 0.01 * (effect + np.array([-1, 0, 1]))
    n = np.arange(2, 60)
    power = stats.nct.sf(stats.t.isf(0.0125, n - 1), n - 1, effect * n**0.5)
    assert seeds_needed(differences, 0.005, 0.025) == n[power >= 0.8][0]


def test_a_wider_margin_needs_no_more_seeds() -> None:
    """At some margins scipy has no number for the test of the farther one."""
    differences = 0.01 * (0.2 + np.array([-1, 0, 1]))
    needed = [seeds_needed(differences, 0.01 * margin) for margin in np.linspace(0.5, 30, 600)]
    assert None not in needed and needed == sorted(needed, reverse=True) and needed[-1] < 4


def test_equivalence_is_two_one_sided_tests() -> None:
    differences = np.random.default_rng(3).normal(0.001, 0.004, (5, 6))
    theirs = [max(ttost_paired(row, np.zeros(6), -0.005, 0.005)[0], 0) for row in differences]
    assert equivalence_p(differences, 0.005) == pytest.approx(theirs)
    assert np.isnan(equivalence_p([0.001], 0.005)) and np.isnan(equivalence_p([0.1, 0.2], None))
    assert equivalence_p([0.0, 0.0, 0.0], 0.005) == 0 and np.isnan(equivalence_p([0.0, 0.0], 0.005))
    assert np.isnan(equivalence_p([0.001, 0.001, 0.001], 0.005))


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(("truth", "wrong"), [(0.0, "differs"), (0.005, "equivalent"), (-0.005, "equivalent")])
def test_a_verdict_is_wrong_in_one_of_twenty_experiments_at_most(truth: float, wrong: str, seeds: int) -> None:
    """Whatever the spread; an effect of just the smallest size that matters is the hardest case."""
    rng = np.random.default_rng(4)
    highest = stats.binom.ppf(0.9995, SWEEPS, 0.05) / SWEEPS
    for spread in (0.001, 0.004, 0.02):
        found = verdicts_on(rng.normal(truth, spread, (SWEEPS, seeds)), 0.005)
        assert (found == wrong).mean() <= highest
    assert (verdicts_on(rng.normal(0.0, 0.002, (SWEEPS, 10)), 0.005) == "equivalent").mean() > 0.95
    assert (verdicts_on(rng.normal(0.03, 0.004, (SWEEPS, seeds)), 0.005) == "differs").mean() > 0.9


def test_a_null_factor_differs_in_one_of_twenty_sweeps_at_most() -> None:
    """Reports of 200 sweeps of a real factor and one that does nothing, each seed lucky as a whole."""
    rng = np.random.default_rng(5)
    seen: Counter[str] = Counter()
    for spread in (0.002, 0.004, 0.01) * 67:
        scores = np.array([0.60, 0.62])[:, None, None] + rng.normal(0, 0.01, 5) + rng.normal(0, spread, (2, 2, 5))
        effects = main_effects(grid_of({"optim": ["sgd", "adam"], "device": ["a", "b"]}, [*range(5)], scores), 0.005)
        seen.update(effects.verdict[effects.factor == "device"])
    assert seen["differs"] <= 10 and seen.total() == 201 and seen["equivalent"] > 50


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_probability_of_winning_is_covered_at_least_as_often_as_said(seeds: int) -> None:
    rng = np.random.default_rng(6)
    for truth in (0.5, 0.7, 0.95):
        shift = stats.norm.ppf(truth)
        _, low, high = superiority(rng.normal(shift, 1, (SWEEPS, seeds)))
        assert ((low <= truth) & (truth <= high)).mean() >= stats.binom.ppf(0.0005, SWEEPS, 0.95) / SWEEPS
        # A test set of few images: differences are multiples of something, and ties happen.
        _, low, high = superiority(np.round(rng.normal(0, 1, (SWEEPS, seeds))))
        assert ((low <= 0.5) & (high >= 0.5)).mean() >= stats.binom.ppf(0.0005, SWEEPS, 0.95) / SWEEPS


def test_the_probability_of_winning_is_a_share_of_the_seeds() -> None:
    probability, low, high = superiority([[0.1, 0.2, -0.1, 0.0], [-0.1, -0.2, -0.1, -0.3]])
    assert list(probability) == [0.625, 0]
    assert (low[1], high[1]) == pytest.approx(stats.binomtest(0, 4).proportion_ci(method="exact"))
    assert low[0] < 0.625 < high[0]


@pytest.mark.parametrize(("effect", "smallest"), [(0.004, None), (0.004, 0.003), (0.001, 0.005), (0.0, 0.005)])
def test_as_many_seeds_as_are_said_to_decide_do(effect: float, smallest: float | None) -> None:
    differences = effect + 0.004 * np.array([-1, 0, 1])  # with a standard deviation of 0.004
    needed = seeds_needed(differences, smallest)
    assert needed is not None
    found = verdicts_on(np.random.default_rng(7).normal(effect, 0.004, (SWEEPS, needed)), smallest)
    assert 0.78 <= (found != "undecided").mean() <= 0.93  # 80 % by either test alone; few seeds are a coarse scale
