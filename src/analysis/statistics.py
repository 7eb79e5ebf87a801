"""Statistics over seeds: intervals, paired tests, equivalence, verdicts, effect sizes, Holm's correction. Arrays in,
arrays out.

Seeds are the last axis of every array.
"""

import math
from bisect import bisect_left
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # not scipy.stats, whose import takes longer than the tests of a large report

from src.sweeps.always_valid import ALPHA, NO_SPREAD, critical_t

CONFIDENCE = 1 - ALPHA
_NEVER = 1e9  # a t statistic that no power is computed for


def t_sf(t: ArrayLike, freedom: int) -> NDArray[np.float64]:
    """The probability that Student's t exceeds ``t``."""
    return special.stdtr(freedom, -np.asarray(t))


def t_isf(tail: ArrayLike, freedom: int) -> NDArray[np.float64]:
    """What Student's t exceeds with probability ``tail``."""
    return -special.stdtrit(freedom, tail)


def _standard_error(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values.std(-1, ddof=1) / values.shape[-1] ** 0.5


class Verdict(StrEnum):
    DIFFERS = "differs"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"
    AT_CHANCE = "at chance"  # no arm learned anything


class Mean(NamedTuple):
    """Means over n seeds ``[...]``, their confidence intervals, and p-values for the hypothesis that they are zero.

    With one seed, interval and p-value are NaN; without any spread, the p-value is NaN.
    """

    n: int
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p: NDArray[np.float64]


def mean_over_seeds(values: ArrayLike, confidence: float = CONFIDENCE) -> Mean:
    """Mean, interval (95 %) by Student's t with n - 1 degrees of freedom, and two-sided t-test against zero.

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
    error = _standard_error(values)
    half = t_isf((1 - confidence) / 2, n - 1) * error
    spread = error > NO_SPREAD
    t = np.divide(mean, error, out=np.full_like(mean, np.nan), where=spread)
    return Mean(n, mean, mean - half, mean + half, 2 * t_sf(np.abs(t), n - 1))


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
    d_av = np.divide(difference, spread, out=np.full_like(difference, np.nan), where=spread > NO_SPREAD)
    return d_av * (1 - 3 / (4 * 2 * n - 9))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p-values of a family of comparisons after Holm's step-down correction; NaN (no test) does not count.

    statsmodels' ``multipletests`` gives the same, but takes a second to import and collects garbage at every call.
    """
    corrected = np.array(p_values, dtype=float)
    rising = np.argsort(corrected)[: np.isfinite(corrected).sum()]  # NaN comes last
    steps = np.arange(len(rising), 0, -1)
    corrected[rising] = np.maximum.accumulate(steps * corrected[rising]).clip(max=1)
    return corrected


def equivalence_p(differences: ArrayLike, smallest_effect: float | None) -> NDArray[np.float64]:
    """The p-value of the hypothesis that the mean difference is at least ``smallest_effect`` in either direction.

    Two one-sided t-tests, of which the larger p-value counts (TOST, Schuirmann 1987, doi:10.1007/BF01068419). Three or
    more differences that are all zero count as equivalent, because runs that ignore a setting are equal to the bit.

    Args:
        differences: ``[..., n]``, paired by seed.
        smallest_effect: in the unit of the differences, above 0; None if unknown, which nothing is equivalent by.

    Returns:
        ``[...]``; NaN for one seed, without any spread, or if ``smallest_effect`` is None.
    """
    differences = np.asarray(differences, dtype=float)
    n, mean = differences.shape[-1], differences.mean(-1)
    if n < 2 or smallest_effect is None:
        return np.full_like(mean, np.nan)
    error = _standard_error(differences)
    t = np.divide(smallest_effect - np.abs(mean), error, out=np.full_like(mean, np.nan), where=error > NO_SPREAD)
    same = (np.abs(differences) < NO_SPREAD).all(-1) & (n > 2)
    return np.where(same, 0.0, t_sf(t, n - 1))


def verdicts(p: ArrayLike, p_equivalence: ArrayLike) -> NDArray[np.str_]:
    """The ``Verdict`` on each comparison, by the p-values of its t-test and of ``equivalence_p``.

    A difference that is both significant and surely smaller than the smallest effect is ``equivalent``.
    """
    different, equivalent = np.asarray(p, dtype=float) < ALPHA, np.asarray(p_equivalence, dtype=float) < ALPHA
    return np.select([equivalent, different], [Verdict.EQUIVALENT, Verdict.DIFFERS], Verdict.UNDECIDED)


def superiority(differences: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """P(A > B): how often a run beats its partner of the same seed, a tie counting half; and its 95 % interval.

    The measure of Bouthillier et al. 2021 (arXiv:2103.03098); the interval is Clopper and Pearson's, exact for few
    seeds, where a bootstrap covers too seldom.

    Args:
        differences: A - B, ``[..., n]``.

    Returns:
        Probability, and both ends of the interval, ``[...]`` each, 0 to 1.
    """
    differences = np.asarray(differences, dtype=float)
    signs = np.where(np.abs(differences) < NO_SPREAD, 0.5, differences > 0)
    wins, n = np.asarray(signs.sum(-1)), differences.shape[-1]
    low = np.where(wins > 0, special.betaincinv(np.maximum(wins, 0.5), n - wins + 1, ALPHA / 2), 0.0)
    high = np.where(wins < n, special.betainccinv(wins + 1, np.maximum(n - wins, 0.5), ALPHA / 2), 1.0)
    return wins / n, low, high


def _beyond(critical: float, df: int, noncentrality: float) -> float:
    """The probability that a noncentral t exceeds ``critical``. scipy has no number here and there above 37: 0 or 1."""
    below = float(special.nctdtr(df, noncentrality, critical))
    return float(noncentrality > critical) if math.isnan(below) else 1 - below


def seeds_needed(
    differences: ArrayLike, smallest_effect: float | None = None, alpha: float = ALPHA, *, at_every_look: bool = False
) -> int | None:
    """The number of seeds that decides with 80 % power, if this mean difference and this spread are the true ones: that
    finds the difference (paired t-test), or equivalence (``equivalence_p``), whichever takes fewer.

    The power of the latter is that of two one-sided tests by the noncentral t-distribution (Phillips 1990,
    doi:10.1007/BF01063556).

    Args:
        differences: ``[n]``.
        smallest_effect: see ``equivalence_p``.
        alpha: of the test; that of a family divided by its size is enough for Holm's correction.
        at_every_look: decide by e-values (``src.sweeps.always_valid``) instead of t-tests; the number is that of a
            single look, so that more looks need somewhat fewer.

    Returns:
        None if unknown: fewer than three differences, no spread, or more than a thousand seeds needed.
    """
    differences = np.asarray(differences, dtype=float)
    if len(differences) < 3 or (spread := differences.std(ddof=1)) < NO_SPREAD:
        return None
    effect, margin = abs(differences.mean()) / spread, (smallest_effect or 0) / spread

    def power(n: int) -> float:
        two_sided, one_sided = t_isf([alpha / 2, alpha], n - 1)
        if at_every_look:
            two_sided, one_sided = (min(critical_t(n, level), _NEVER) for level in (alpha, 2 * alpha))
        finds = _beyond(two_sided, n - 1, effect * n**0.5) if effect else 0.0
        upper, lower = (_beyond(one_sided, n - 1, (margin + sign * effect) * n**0.5) for sign in (-1, 1))
        return max(finds, upper + lower - 1)

    counts = range(2, 1001)
    place = bisect_left(counts, 0.8, key=power)
    return counts[place] if place < len(counts) else None
