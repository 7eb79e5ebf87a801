"""A test of paired differences that may be looked at after every pair, for seeds that are added until all is clear.

Fixed-sample tests that are repeated as data come in are wrong far more often than they say. This one is an e-value: the
Bayes factor of the t statistic for a normal prior of the effect in standard deviations (Gönen et al. 2005,
doi:10.1198/000313005X55233). If there is no effect, it ever exceeds 1 / alpha with a probability of at most alpha,
however often and for however long one looks (Hendriksen, de Heide and Grünwald 2021, doi:10.1214/20-BA1234; Wang and
Ramdas 2024, arXiv:2310.03722). So the number of seeds need not be fixed before, and may be raised later.
"""

import math
from collections.abc import Sequence
from statistics import mean, stdev

ALPHA = 0.05
FEWEST = 4  # seeds: fewer decide nothing
NO_SPREAD = 1e-9  # smaller differences of accuracies are rounding errors
_PRIOR = 1.5  # standard deviation of the effect, in standard deviations of the differences: finds 1 to 2 soonest


def critical_t(n: int, alpha: float) -> float:
    """The absolute t statistic of n differences from which the e-value exceeds 1 / alpha; infinite if none does."""
    ratio = 1 + n * _PRIOR**2
    bound = (math.sqrt(ratio) / alpha) ** (2 / n)
    return math.sqrt((n - 1) * (bound - 1) / (1 - bound / ratio)) if bound < ratio else math.inf


def interval(differences: Sequence[float], alpha: float = ALPHA) -> tuple[float, float]:
    """The interval of the mean that covers it at every look at once, with a probability of at least 1 - alpha.

    Without any spread it is infinite, unless all differences are zero.
    """
    n, center = len(differences), mean(differences)
    error = stdev(differences) / math.sqrt(n) if n >= FEWEST else math.inf
    half = critical_t(n, alpha) * error if error > NO_SPREAD else math.inf if center else 0.0
    return center - half, center + half


def p_value(differences: Sequence[float]) -> float:
    """The inverse of the e-value, at most 1: below alpha with a probability of at most alpha, whenever one looks; NaN
    without any spread."""
    n = len(differences)
    if n < 2 or (spread := stdev(differences)) < NO_SPREAD:
        return math.nan
    ratio, t2 = 1 + n * _PRIOR**2, n * (mean(differences) / spread) ** 2
    e = ((1 + t2 / (n - 1)) / (1 + t2 / (n - 1) / ratio)) ** (n / 2) / math.sqrt(ratio)
    return min(1.0, 1 / e)


def decide(differences: Sequence[float], smallest_effect: float | None) -> str:
    """``equivalent`` (two one-sided tests: the interval of twice alpha lies within the smallest effect), else
    ``differs`` (zero is outside of the interval) or ``undecided``; each is wrong with a probability of at most alpha.

    Args:
        differences: one per seed, at least one.
        smallest_effect: above 0; None if nothing is equivalent.
    """
    low, high = interval(differences, 2 * ALPHA)
    if smallest_effect is not None and -smallest_effect < low <= high < smallest_effect:
        return "equivalent"
    low, high = interval(differences)
    return "differs" if low > 0 or high < 0 else "undecided"
