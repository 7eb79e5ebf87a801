"""What the test set hides: from the outcome of every test image, see ``src.runs.outcomes``."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from src.analysis.effects import settings_of
from src.analysis.statistics import ALPHA
from src.analysis.table import SCORE
from src.runs.folder import RunFolder
from src.runs.outcomes import Outcomes, load_outcomes

_ROUNDING = 1e-4  # test/accuracy is a quotient in float32


class Spread(NamedTuple):
    """Standard deviations over seeds of the test accuracy, 0 to 1: ``observed² = test_set² + beyond²``, unless the
    estimate of ``beyond²`` is negative and cut at 0. ``low`` and ``high``: 95 % interval of ``beyond``."""

    observed: float
    test_set: float
    beyond: float
    low: float
    high: float


def load_all_outcomes(runs: pd.DataFrame) -> dict[Path, Outcomes]:
    """The outcomes of completed runs, by folder.

    Left out are runs without outcomes (of older versions), with damaged ones or ones that contradict results.json, and
    runs on other test images than most.

    Args:
        runs: see ``load_runs``.
    """
    found = {}
    for folder, accuracy in zip(runs.folder, runs[SCORE], strict=True):
        try:
            outcomes = load_outcomes(RunFolder(folder).outcomes_file)
        except (FileNotFoundError, ValueError):
            continue
        if abs(outcomes.correct.mean() - accuracy) < _ROUNDING:
            found[folder] = outcomes
    content = {
        folder: (repr((settings or {}).get("data.content")), found[folder].label.tobytes())
        for folder, settings in zip(runs.folder, runs.settings, strict=True)
        if folder in found
    }
    most = [images for images, _ in Counter(content.values()).most_common(1)]
    return {folder: outcomes for folder, outcomes in found.items() if content[folder] in most}


def spread_over_seeds(groups: Sequence[ArrayLike]) -> Spread | None:
    """How much of the spread over seeds is due to the finite test set.

    With p_i the share of seeds that classify image i correctly, N images whose outcomes are independent given a run
    contribute ``sum(p_i (1 - p_i)) / N²`` to the variance of a run's accuracy, even if all runs were equally accurate
    on an infinite test set. The rest, times N / (N - 1), estimates the variance of that accuracy without bias; k seeds
    underestimate p (1 - p) by the factor (k - 1) / k (Jordan 2023, arXiv:2304.01910, section 4). The interval is that
    of a normal variance (chi-squared), less the test set's part.

    Args:
        groups: of each configuration, bool ``[seeds, N]``: which images were classified correctly. Variances are pooled
            by their degrees of freedom.

    Returns:
        None without two seeds of one configuration, or with a single image.
    """
    observed = test_set = freedom = 0.0
    images = 0
    for group in groups:
        correct = np.asarray(group, dtype=float)
        seeds, images = correct.shape
        if seeds < 2 or images < 2:
            continue
        observed += (seeds - 1) * correct.mean(1).var(ddof=1)
        test_set += (seeds - 1) * correct.var(0, ddof=1).sum() / images**2
        freedom += seeds - 1
    if not freedom:
        return None
    observed, test_set = observed / freedom, test_set / freedom
    ends = observed * freedom / special.chdtri(freedom, [ALPHA / 2, 1 - ALPHA / 2])
    beyond = np.sqrt(np.maximum([observed - test_set, *(ends - test_set)], 0) * images / (images - 1))
    return Spread(observed**0.5, test_set**0.5, *map(float, beyond))


def votes_of(outcomes: Sequence[Outcomes]) -> NDArray[np.int64]:
    """How many of several runs predict each class: ``[N, classes]``."""
    classes = 1 + max(int(max(each.label.max(), each.predicted.max())) for each in outcomes)
    votes = np.zeros((len(outcomes[0].label), classes), dtype=np.int64)
    for each in outcomes:
        votes[np.arange(len(votes)), each.predicted] += 1
    return votes


def majority_accuracy(outcomes: Sequence[Outcomes]) -> float:
    """The accuracy, 0 to 1, of the vote of several runs; a tie counts as the share of its classes that are right."""
    votes, label = votes_of(outcomes), outcomes[0].label
    winners = votes == votes.max(1, keepdims=True)
    return float((winners[np.arange(len(label)), label] / winners.sum(1)).mean())


def agreement(outcomes: Sequence[Outcomes]) -> float:
    """The share of images for which two runs predict the same class, averaged over all pairs of runs; NaN for one."""
    votes, runs = votes_of(outcomes), len(outcomes)
    return float((votes * (votes - 1)).sum(1).mean() / (runs * (runs - 1))) if runs > 1 else np.nan


def configurations_on_images(
    runs: pd.DataFrame, factors: Sequence[str], outcomes: Mapping[Path, Outcomes]
) -> pd.DataFrame:
    """One row per configuration: ``factors``, ``n`` (seeds with outcomes), ``spread`` (see ``spread_over_seeds``),
    ``agreement`` between its seeds, ``vote`` (see ``majority_accuracy``) and ``mean`` accuracy."""
    rows = []
    for levels, group in settings_of(runs[runs.folder.isin(outcomes)], factors):
        seeds = [outcomes[folder] for folder in group.folder]
        spread = spread_over_seeds([[each.correct for each in seeds]])
        rows.append(
            levels
            | {"n": len(seeds), "spread": spread, "agreement": agreement(seeds)}
            | {"vote": majority_accuracy(seeds), "mean": float(np.mean([each.correct.mean() for each in seeds]))}
        )
    return pd.DataFrame(rows, dtype=object)


class Churn(NamedTuple):
    """The images that a change of one factor fixes and breaks, over pairs of runs that differ in it alone.

    Args:
        factor, levels: the change; the baseline first.
        pairs: their number.
        fixed, broken: shares of the images, 0 to 1; the effect is ``fixed - broken``.
        agreement: the share of images for which both runs of a pair predict the same class.
        flips: int ``[N]``, in how many pairs an image is fixed, minus in how many it is broken.
    """

    factor: str
    levels: tuple[Any, Any]
    pairs: int
    fixed: float
    broken: float
    agreement: float
    flips: NDArray[np.int64]


def churn(
    runs: pd.DataFrame, factors: Sequence[str], levels: Mapping[str, Sequence[Any]], outcomes: Mapping[Path, Outcomes]
) -> Iterator[Churn]:
    """The churn of every change of a factor from its baseline.

    Args:
        levels: by factor, its baseline first, see ``Grid``.
    """
    there = runs[runs.folder.isin(outcomes)]
    for factor in factors:
        others = [*(name for name in factors if name != factor), "seed"]
        by_level: dict[str, dict[tuple[str, ...], Outcomes]] = {}
        for _, run in there.iterrows():
            held = tuple(repr(run[name]) for name in others)
            by_level.setdefault(repr(run[factor]), {})[held] = outcomes[run.folder]
        baseline, *treated = levels[factor]
        before = by_level.get(repr(baseline), {})
        for level in treated:
            after = by_level.get(repr(level), {})
            pairs = [(before[held], after[held]) for held in before if held in after]
            if pairs:
                changes = np.array([b.correct.astype(int) - a.correct for a, b in pairs])
                fixed, broken = float((changes > 0).mean()), float((changes < 0).mean())
                same = float(np.mean([a.predicted == b.predicted for a, b in pairs]))
                yield Churn(factor, (baseline, level), len(pairs), fixed, broken, same, changes.sum(0))
