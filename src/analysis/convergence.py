"""Speed of convergence: time to given validation accuracies, and the area under the curve."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from src.analysis.effects import settings_of
from src.analysis.table import SELECTION, load_curves


def _area(accuracies: pd.Series) -> float:
    """Area under validation accuracy by epoch, first epoch to last, divided by that span: a mean accuracy, 0 to 1."""
    values = accuracies.to_numpy(float)
    return float(np.trapezoid(values) / (len(values) - 1)) if len(values) > 1 else float(values[0])


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
    first = {target: curves[curves[SELECTION] >= target].drop_duplicates("folder") for target in targets}
    areas = curves.groupby("folder", sort=False)[SELECTION].agg(_area)
    rows = []
    for levels, group in settings_of(curves, factors):
        folders = group.folder.unique()
        there = {target: epochs[epochs.folder.isin(folders)] for target, epochs in first.items()}
        times = {
            target: epochs[["epoch", "step", "seconds"]].mean()
            for target, epochs in there.items()
            if len(epochs) == len(folders)
        }
        row = {"n": len(folders), "area": float(areas[folders].mean()), "times": times}
        rows.append(levels | row | {"reached": {target: len(epochs) for target, epochs in there.items()}})
    return pd.DataFrame(rows, dtype=object)
