"""What a search (``src.tune``) found, and with how much effort: arms, their trials, the best of each."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.analysis.effects import scores_of, settings_of
from src.analysis.table import factors_of
from src.runs.identity import ABSENT, follows


def trials_of(everything: pd.DataFrame) -> pd.DataFrame:
    """The jobs that a search chose, also unfinished ones: their last override is the number of the trial."""
    return everything[everything["job"].astype(str).str.contains(r"(?:^|, )tuner\.trial=\d+$")]


def arms_of(runs: pd.DataFrame) -> list[str]:
    """The factors of a search that are compared: those that vary and have a level that is no number. All others are
    tuned for each combination of these, its arm."""

    def is_number(level: object) -> bool:
        return level is None or level == ABSENT or (isinstance(level, int | float) and not isinstance(level, bool))

    arms: list[str] = []
    for name in factors_of(runs):
        followed = any(follows(runs[name].tolist(), runs[earlier].tolist()) for earlier in arms)
        arms += [name] if not followed and not all(map(is_number, runs[name])) else []
    return arms


def best_of_arms(runs: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """The runs of the best configuration of each arm: of those that completed most seeds, the one of the best mean
    score over seeds. Only the arms are factors of the result.

    Args:
        runs: completed ones, see ``load_runs``.

    Raises:
        ValueError: the runs have different scores, or some have none.
    """
    score, *other = scores_of(runs)
    if other or score.metric not in runs or runs[score.metric].isna().any():
        raise ValueError("The trials of a search have different scores, or some have none: they cannot be compared.")
    sign = 1 if score.best == "highest" else -1
    chosen = []
    for _, arm in settings_of(runs, arms):
        tried = [group for _, group in settings_of(arm, factors_of(arm))]
        chosen += list(max(tried, key=lambda group: (len(group), sign * group[score.metric].mean())).index)
    best = runs.loc[chosen].sort_index()
    best.attrs = runs.attrs | {"factors": list(arms)}
    return best


def efforts(everything: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """What was spent on each arm.

    Args:
        everything: all jobs, see ``load_runs``.

    Returns:
        ``arms``, ``trials``, ``completed``, ``pruned``, ``failed`` (or not finished), ``epochs`` (of all its trials)
        and ``scores``: the validation accuracy, 0 to 1, of each completed or pruned trial, the highest of its epochs.
    """
    trials = trials_of(everything)
    rows = []
    for levels, group in settings_of(trials, arms):
        counts = group.status.value_counts()
        done = group[group.status.isin(["completed", "pruned"])]
        scores = [max((row.get("val/accuracy", math.nan) for row in curve), default=math.nan) for curve in done.curve]
        ended = {name: int(counts.get(name, 0)) for name in ("completed", "pruned")}
        rows.append(
            levels
            | {"trials": len(group), **ended, "failed": len(group) - sum(ended.values())}
            | {"epochs": int(group.epochs_done.sum()), "scores": [value for value in scores if not math.isnan(value)]}
        )
    return pd.DataFrame(rows, dtype=object)


def expected_best(scores: Sequence[float]) -> NDArray[np.float64]:
    """The expected best of n trials, for n from 1 to N, from the scores of N trials: the mean of the best over all
    subsets of size n. Unbiased (Tang et al. 2020, doi:10.18653/v1/2020.acl-main.246); the idea is of Dodge et al. 2019
    (doi:10.18653/v1/D19-1224), who draw with replacement. Trials must be drawn independently, as tuner=random does.

    Returns:
        float ``[N]``, rising.
    """
    ordered, total = np.sort(np.asarray(scores, float)), len(scores)
    shares = [[math.comb(place, n - 1) / math.comb(total, n) for place in range(total)] for n in range(1, total + 1)]
    return np.array(shares).reshape(total, total) @ ordered
