"""Speed of convergence: time to given validation accuracies, and the area under the curve."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from src.analysis.effects import SELECTION, settings_of
from src.analysis.table import load_curves


def reached(curve: pd.DataFrame, target: float) -> pd.Series | None:
    """The row of a run's curve for the first epoch with a validation accuracy of at least ``target``."""
    there = np.flatnonzero(curve[SELECTION].to_numpy() >= target)
    return curve.iloc[there[0]] if len(there) else None


def area(curve: pd.DataFrame) -> float:
    """Area under validation accuracy by epoch, first epoch to last, divided by that span: a mean accuracy, 0 to 1."""
    accuracies = curve[SELECTION].to_numpy(float)
    return float(np.trapezoid(accuracies) / (len(accuracies) - 1)) if len(accuracies) > 1 else float(accuracies[0])


def convergence(runs: pd.DataFrame, factors: Sequence[str], targets: Sequence[float]) -> pd.DataFrame:
    """One row per configuration: how fast it learned.

    Returns:
        ``factors``, ``n``, ``area`` (mean over seeds) and, by target that some run reaches: ``reached`` (number of
        seeds) and ``times`` (means of ``epoch``, ``step`` and ``seconds`` until then). The latter is there if all seeds
        reached the target: without its slow seeds a configuration would look better. Empty if there was no
        validation.
    """
    curves = load_curves(runs, factors)
    if SELECTION not in curves:
        return pd.DataFrame()
    curves = curves.dropna(subset=[SELECTION])
    targets = [target for target in sorted(targets) if (curves[SELECTION] >= target).any()]
    rows = []
    for levels, group in settings_of(curves, factors):
        by_run = [curve for _, curve in group.groupby("folder", sort=False)]
        first = {target: [row for curve in by_run if (row := reached(curve, target)) is not None] for target in targets}
        times = {
            target: pd.DataFrame(there)[["epoch", "step", "seconds"]].mean()
            for target, there in first.items()
            if len(there) == len(by_run)
        }
        row = {"n": len(by_run), "area": float(np.mean([area(curve) for curve in by_run])), "times": times}
        rows.append(levels | row | {"reached": {target: len(there) for target, there in first.items()}})
    return pd.DataFrame(rows, dtype=object)
