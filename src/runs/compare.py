"""Many run folders side by side: a table of runs, and the worth of each factor with the others held fixed."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from src.runs.folder import RunFolder

SCORE = "test/accuracy"
_CONFIDENCE = 0.95


def load_runs(sweep: Path) -> pd.DataFrame:
    """Every run folder directly in ``sweep``, one row each, in the order they were started.

    Returns:
        ``folder``, ``status``, ``error``, ``seed``, ``classes``, the factors by their names, the metrics by theirs
        (accuracies 0 to 1), ``parameters``, ``seconds``, ``images_per_second`` and ``verdict``, where known.

    Raises:
        FileNotFoundError: there is no run folder in it.
    """
    rows = []
    for file in sorted(sweep.glob("*/results.json")):
        results = RunFolder(file.parent).results()
        known = ("status", "error", "seed", "started", "parameters", "seconds", "images_per_second")
        row: dict[str, Any] = {"folder": file.parent} | {key: results.get(key) for key in known}
        row["verdict"] = results.get("verdict", {}).get("kind")
        rows.append(row | results.get("factors", {}) | results.get("metrics", {}))
    if not rows:
        raise FileNotFoundError(
            f"There are no runs in {sweep}; expected the folder of a multirun, or its name: python -m src.report "
            "sweep=<name>, as in python -m src.train --multirun sweep=<name> ..."
        )
    # As objects: pandas would turn None, which is a factor's level like any other, into a number that equals nothing.
    columns = dict.fromkeys(name for row in rows for name in row)
    table = {name: pd.Series([row.get(name) for row in rows], dtype=object) for name in columns}
    numbers = [name for name in columns if "/" in name]
    return pd.DataFrame(table).astype(dict.fromkeys(numbers, float)).sort_values("started", ignore_index=True)


def varying_factors(runs: pd.DataFrame) -> list[str]:
    """The factors that differ among ``runs``, the seed left out, in the order results.json gives them.

    A factor that follows from an earlier one goes with it: where every optimiser has its own learning rate, they are
    one choice, and no two runs differ in the rate alone.
    """
    factors = RunFolder(runs.folder.iloc[0]).results()["factors"]
    levels = {name: runs[name].map(repr) for name in factors if name != "seed"}
    varying = [name for name in levels if levels[name].nunique() > 1]
    return [
        name
        for place, name in enumerate(varying)
        if not any(levels[name].groupby(levels[earlier]).nunique().eq(1).all() for earlier in varying[:place])
    ]


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % confidence interval of the mean of independent values, by Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    error = float(stats.sem(values))
    half = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1)) * error
    mean = sum(values) / len(values)
    return mean - half, mean + half


def configurations(runs: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    """Mean, standard deviation and interval of the test accuracy over seeds, a row per combination of ``factors``."""
    rows = []
    for levels, group in _groups(runs, factors):
        scores = group[SCORE].tolist()
        rows.append(
            levels
            | {
                "n": len(scores),
                "mean": sum(scores) / len(scores),
                "std": float(group[SCORE].std()) if len(scores) > 1 else math.nan,
                "interval": interval(scores),
                "train_loss": group["train/loss"].mean(),
                "scores": scores,
                "folders": group.folder.tolist(),
            }
        )
    order = {factor: list(dict.fromkeys(runs[factor])) for factor in factors}
    rows.sort(key=lambda row: [order[factor].index(row[factor]) for factor in factors])
    return pd.DataFrame(rows, dtype=object)


def simple_effects(runs: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    """What changing one factor alone does to the test accuracy, for every setting of the other factors.

    Differences are paired: two runs that differ in this factor and nothing else, the seed included. A factor's
    baseline is the level that was run first.
    """
    rows = []
    for factor in factors:
        others = [name for name in factors if name != factor]
        for baseline, level in _contrasts(runs, factor):
            for held, group in _groups(runs, others):
                differences = _paired(group, factor, baseline, level)
                if differences:
                    rows.append(
                        {"factor": factor, "change": f"{baseline} → {level}", "held": held} | _summary(differences)
                    )
    return pd.DataFrame(rows)


def main_effects(runs: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    """The effect of each factor averaged over all settings of the others, and the interaction of each two factors.

    The interaction is the difference between a factor's effect at one level of the other and at its baseline, averaged
    over the rest. Both are computed within a seed, and the seeds are what the interval is over; a seed for which some
    setting is missing is left out, since its average would be over other settings.
    """
    rows = []
    for factor in factors:
        others = [name for name in factors if name != factor]
        for baseline, level in _contrasts(runs, factor):
            settings = len(list(_groups(runs, others)))
            effects = [
                sum(differences) / settings
                for _, group in runs.groupby("seed")
                if len(differences := _paired(group, factor, baseline, level, by=others)) == settings
            ]
            if effects:
                rows.append({"effect": factor, "change": f"{baseline} → {level}"} | _summary(effects))
    for first, second in combinations(factors, 2):
        others = [name for name in factors if name not in (first, second)]
        for baseline, level in _contrasts(runs, first):
            for off, on in _contrasts(runs, second):
                settings = len(list(_groups(runs, others)))
                interactions = []
                for _, group in runs.groupby("seed"):
                    with_on = _paired(group[group[second].map(repr) == repr(on)], first, baseline, level, by=others)
                    with_off = _paired(group[group[second].map(repr) == repr(off)], first, baseline, level, by=others)
                    if len(with_on) == len(with_off) == settings:
                        interactions.append((sum(with_on) - sum(with_off)) / settings)
                if interactions:
                    rows.append(
                        {"effect": f"{first} × {second}", "change": f"{baseline} → {level}, {off} → {on}"}
                        | _summary(interactions)
                    )
    return pd.DataFrame(rows)


def _groups(runs: pd.DataFrame, factors: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Runs with equal levels of ``factors``; levels may be None, which pandas' groupby would drop."""
    if runs.empty:
        return
    keys = runs[list(factors)].map(repr).agg("|".join, axis=1) if factors else pd.Series("", index=runs.index)
    for _, group in runs.groupby(keys, sort=False):
        yield group.iloc[0][list(factors)].to_dict(), group


def _contrasts(runs: pd.DataFrame, factor: str) -> list[tuple[Any, Any]]:
    """The baseline with each other level."""
    levels = list(dict.fromkeys(runs[factor]))
    return [(levels[0], level) for level in levels[1:]]


def _paired(runs: pd.DataFrame, factor: str, baseline: Any, level: Any, by: Sequence[str] = ()) -> list[float]:
    """Differences in test accuracy between runs at ``level`` and at ``baseline`` with equal seed and equal ``by``."""
    differences = []
    for _, group in _groups(runs, ["seed", *by]):
        scores = {repr(value): score for value, score in zip(group[factor], group[SCORE], strict=True)}
        if repr(level) in scores and repr(baseline) in scores:
            differences.append(scores[repr(level)] - scores[repr(baseline)])
    return differences


def _summary(values: list[float]) -> dict[str, Any]:
    return {"n": len(values), "mean": sum(values) / len(values), "interval": interval(values)}
