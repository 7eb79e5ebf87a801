"""A test that may be looked at after every seed."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from src.sweeps.always_valid import ALPHA, FEWEST, critical_t, decide, interval, p_value

SWEEPS, SEEDS = 10_000, 40
COUNTS = np.arange(FEWEST, SEEDS + 1)


def looks(effect: float) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard errors ``[sweeps, looks]`` of differences of standard deviation 1, from the first look on."""
    differences = np.random.default_rng(0).normal(effect, 1, (SWEEPS, SEEDS))
    n = np.arange(1, SEEDS + 1)
    means = differences.cumsum(1) / n
    variances = ((differences**2).cumsum(1) - n * means**2) / np.maximum(n - 1, 1)
    return means[:, FEWEST - 1 :], np.sqrt(variances / n)[:, FEWEST - 1 :]


def differs(effect: float, seeds: int = SEEDS) -> float:
    """The share of sweeps that are decided as differing at any look up to that number of seeds."""
    means, errors = looks(effect)
    critical = np.array([critical_t(n, ALPHA) for n in COUNTS])
    return float((np.abs(means) > critical * errors)[:, : seeds - FEWEST + 1].any(1).mean())


def test_no_effect_is_told_from_none_in_at_most_5_percent_in_spite_of_looking_after_every_seed() -> None:
    assert 0.01 < differs(0) <= 0.05
    means, errors = looks(0)
    ordinary = np.abs(means) > stats.t.ppf(0.975, COUNTS - 1) * errors
    assert ordinary.any(1).mean() > 0.2  # what the rule is for


def test_an_effect_of_one_standard_deviation_is_found_within_20_seeds_four_times_out_of_five() -> None:
    assert differs(1, seeds=20) > 0.8 and differs(2, seeds=10) > 0.9


def test_what_matters_is_called_equivalent_in_at_most_5_percent() -> None:
    critical = np.array([critical_t(n, 2 * ALPHA) for n in COUNTS])

    def equivalent(effect: float, smallest: float) -> float:
        means, errors = looks(effect)
        half = critical * errors
        return float(((means - half > -smallest) & (means + half < smallest)).any(1).mean())

    assert equivalent(1, smallest=1) <= 0.05 and equivalent(-1, smallest=1) <= 0.05
    assert equivalent(0, smallest=1) > 0.9


@pytest.mark.parametrize(("n", "alpha"), [(4, 0.05), (7, 0.1), (20, 0.05)])
def test_the_critical_t_is_that_of_the_bayes_factor(n: int, alpha: float) -> None:
    t = critical_t(n, alpha)

    def density(effect: float) -> float:
        return stats.nct.pdf(t, n - 1, effect * math.sqrt(n)) * stats.norm.pdf(effect, scale=1.5)

    alternative, _ = integrate.quad(density, -9, 9, points=[t / math.sqrt(n)], limit=200)
    assert alternative / stats.t.pdf(t, n - 1) == pytest.approx(1 / alpha, rel=1e-3)


def test_decisions() -> None:
    assert decide([0.01, 0.011, 0.012, 0.011], None) == "differs"
    assert decide([0.01, 0.011, 0.012], None) == "undecided"  # too few
    assert decide([0.01, 0.01, 0.01, 0.01], None) == "undecided"  # no spread, no test
    assert decide([0.0] * 4, None) == "undecided" and decide([0.0] * 4, 0.005) == "equivalent"
    assert decide([0.001, -0.001, 0.0, 0.0005, -0.0005], 0.005) == "equivalent"
    low, high = interval([0.1, 0.2, 0.3, 0.4, 0.5])
    assert low < 0.3 - stats.t.ppf(0.975, 4) * stats.sem([0.1, 0.2, 0.3, 0.4, 0.5]) and low + high == pytest.approx(0.6)


def test_the_p_value_is_5_percent_where_the_interval_ends_at_zero() -> None:
    differences = np.array([0.1, 0.2, 0.25, 0.4, 0.5])
    low, _ = interval(list(differences))
    assert p_value(list(differences - low)) == pytest.approx(ALPHA)
    assert p_value([0.1, -0.1, 0.05]) == 1 and math.isnan(p_value([0.1, 0.1]))
