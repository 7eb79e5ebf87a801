"""The mixed model for grids in which seeds lack some settings."""

import numpy as np
import pytest
from scipy import stats

from src.analysis.effects import Grid, main_effects
from src.analysis.mixed import mixed_effects
from tests.made_up import grid_of


def grid(scores: np.ndarray) -> Grid:
    return grid_of({"optim": ["sgd", "adam"], "aug": ["none", "basic"]}, [*range(scores.shape[-1])], scores)


def simulated(rng: np.random.Generator, seeds: int = 6, luck: float = 0.01) -> np.ndarray:
    """Accuracies ``[2, 2, seeds]``: Adam is worth 0.02 on average, augmentation 0.04; a fifth is missing."""
    truth = np.array([[0.60, 0.63], [0.61, 0.66]])[..., None]
    scores = truth + rng.normal(0, luck, seeds) + rng.normal(0, 0.005, (2, 2, seeds))
    scores.reshape(-1)[rng.choice(scores.size, scores.size // 5, replace=False)] = np.nan
    return scores


def test_intervals_cover_the_truth_as_often_as_they_say_and_are_narrower_than_those_of_complete_seeds() -> None:
    """Thirty sweeps, since a fit takes its time; of 150 it was as true."""
    rng = np.random.default_rng(0)
    covered, widths = [], []
    for _ in range(30):
        table = grid(simulated(rng))
        effects, paired = mixed_effects(table), main_effects(table)
        for effect, truth in zip(effects.itertuples(), (0.02, 0.04), strict=True):
            covered.append(effect.low <= truth <= effect.high)
        widths.append((effects.high[0] - effects.low[0]) / (paired.high[0] - paired.low[0]))
    low, high = stats.binom.ppf([0.0005, 0.9995], len(covered), 0.95)
    assert low <= sum(covered) <= high
    assert np.nanmedian(widths) < 0.7


def test_where_seeds_differ_wildly_only_pairs_count() -> None:
    rng = np.random.default_rng(1)
    scores = 0.5 + rng.normal(0, 0.001, (2, 6)) + rng.normal(0, 0.2, 6)
    scores[0, 5] = np.nan
    effect = mixed_effects(grid_of({"optim": ["sgd", "adam"]}, [*range(6)], scores)).iloc[0]
    paired = stats.ttest_rel(scores[1, :5], scores[0, :5])
    assert effect.difference == pytest.approx((scores[1] - scores[0])[:5].mean(), abs=1e-5)
    assert effect.p == pytest.approx(paired.pvalue, rel=0.02)


def test_where_seeds_do_not_matter_all_runs_count() -> None:
    """The variance between seeds is estimated as next to zero: two independent samples."""
    scores = np.array([[0.50, 0.52, 0.51, 0.53, np.nan], [0.55, 0.53, 0.54, 0.52, 0.545]])
    effect = mixed_effects(grid_of({"optim": ["sgd", "adam"]}, [*range(5)], scores)).iloc[0]
    assert effect.difference == pytest.approx(np.nanmean(scores[1]) - np.nanmean(scores[0]), rel=0.02)
    pooled = np.sqrt((3 * np.var(scores[0, :4], ddof=1) + 4 * np.var(scores[1], ddof=1)) / 7 * (1 / 4 + 1 / 5))
    assert effect.high - effect.difference == pytest.approx(stats.t.ppf(0.975, 9 - 2 - 5 + 1) * pooled, rel=0.02)


def test_a_complete_grid_needs_none_and_too_few_runs_give_none() -> None:
    complete = np.random.default_rng(2).normal(0.5, 0.01, (2, 2, 3))
    assert mixed_effects(grid(complete)).empty
    complete[0, 0] = np.nan  # a setting that no seed has is no imbalance
    assert mixed_effects(grid(complete)).empty
    lone = np.array([[[0.5, np.nan], [0.6, np.nan]], [[np.nan, 0.5], [np.nan, 0.6]]])
    assert mixed_effects(grid(lone)).empty
    same = np.full((2, 2, 3), 0.5)
    same[0, 0, 0] = np.nan
    assert mixed_effects(grid(same)).empty or not (mixed_effects(grid(same)).verdict == "differs").any()


def test_verdicts_are_those_of_the_three_words() -> None:
    effects = mixed_effects(grid(simulated(np.random.default_rng(3), luck=0.001)), 0.1)
    assert set(effects.verdict) == {"equivalent"} and list(effects.averaged) == [2, 2]
    assert set(mixed_effects(grid(simulated(np.random.default_rng(3), seeds=10)), 0.001).verdict) == {"differs"}
