"""Statistics over seeds: intervals, paired tests, effect sizes, Holm's correction. Arrays in, arrays out.

Seeds are the last axis of every array. statsmodels is imported where it is used, because that takes a second or two.
"""

from bisect import bisect_left
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
_NO_SPREAD = 1e-9  # smaller differences of accuracies are rounding errors


class Mean(NamedTuple):
    """Means over n seeds ``[...]``, their confidence intervals, and p-values for the hypothesis that they are zero.

    With one seed, interval and p-value are NaN; without any spread, the p-value is NaN.
    """

    n: int
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p: NDArray[np.float64]


def mean_over_seeds(values: ArrayLike) -> Mean:
    """Mean, 95 % interval by Student's t with n - 1 degrees of freedom, and two-sided t-test against zero.

    For differences between runs of equal seed this is the paired t-test.

    Args:
        values: ``[..., n]``, n at least 1, without NaN.
    """
    values = np.asarray(values, dtype=float)
    n = values.shape[-1]
    mean = values.mean(-1)
    if n < 2:
        unknown = np.full_like(mean, np.nan)
        return Mean(n, mean, unknown, unknown, unknown)
    error = stats.sem(values, axis=-1)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * error
    spread = error > _NO_SPREAD
    t = np.divide(mean, error, out=np.full_like(mean, np.nan), where=spread)
    return Mean(n, mean, mean - half, mean + half, 2 * stats.t.sf(np.abs(t), n - 1))


def hedges_g_av(baseline: ArrayLike, treated: ArrayLike) -> NDArray[np.float64]:
    """Hedges' g_av of paired values: the mean difference in units of the average standard deviation of the two.

    Corrected for small samples (Lakens 2013, doi:10.3389/fpsyg.2013.00863, equations 10 and 4).

    Args:
        baseline, treated: ``[..., n]``.

    Returns:
        ``[...]``; NaN for one seed, or if neither varies.
    """
    baseline, treated = np.asarray(baseline, dtype=float), np.asarray(treated, dtype=float)
    n = baseline.shape[-1]
    difference = (treated - baseline).mean(-1)
    if n < 2:
        return np.full_like(difference, np.nan)
    spread = (baseline.std(-1, ddof=1) + treated.std(-1, ddof=1)) / 2
    d_av = np.divide(difference, spread, out=np.full_like(difference, np.nan), where=spread > _NO_SPREAD)
    return d_av * (1 - 3 / (4 * 2 * n - 9))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p-values of a family of comparisons after Holm's step-down correction; NaN (no test) does not count."""
    from statsmodels.stats.multitest import multipletests

    corrected = np.array(p_values, dtype=float)
    tested = ~np.isnan(corrected)
    if tested.any():
        corrected[tested] = multipletests(corrected[tested], alpha=ALPHA, method="holm")[1]
    return corrected


def seeds_needed(differences: ArrayLike) -> int | None:
    """The number of seeds that a paired t-test needs to find this mean difference with 80 % power.

    Args:
        differences: ``[n]``.

    Returns:
        None if unknown: fewer than three differences, no spread, or more than a thousand seeds needed.
    """
    from statsmodels.stats.power import TTestPower

    differences = np.asarray(differences, dtype=float)
    if len(differences) < 3 or (spread := differences.std(ddof=1)) < _NO_SPREAD:
        return None
    size = abs(differences.mean()) / spread
    counts = range(2, 1001)  # TTestPower.solve_power does not converge for effects of six or more standard deviations
    place = bisect_left(counts, 0.8, key=lambda n: TTestPower().power(size, n, ALPHA))
    return counts[place] if place < len(counts) else None
