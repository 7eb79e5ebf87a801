"""Unbalanced grids: a mixed model, which also uses the runs of seeds that lack other settings."""

import warnings

import numpy as np
import pandas as pd

from src.analysis.effects import Grid, decided
from src.analysis.statistics import ALPHA, t_isf, t_sf


def mixed_effects(table: Grid, smallest_effect: float | None = None) -> pd.DataFrame:
    """The effect of each factor where seeds lack some of the settings, averaged over all settings of the others.

    A linear mixed model by REML (statsmodels' MixedLM): a fixed effect for each configuration, a random intercept for
    each seed, the same variance in all configurations. Tests and intervals are Student's with N - configurations -
    seeds + 1 degrees of freedom for N runs, which is exact for a complete grid (randomised blocks).

    Args:
        smallest_effect: see ``equivalence_p`` in ``src.analysis.statistics``.

    Returns:
        ``factor``, ``baseline``, ``level``, ``averaged`` (settings that have both levels, in whatever seeds), ``n``
        (runs of the model), ``difference`` and the columns of ``decided``. Empty if no seed lacks a setting, there are
        too few runs to estimate the variances, or seeds were added until all was clear, which this does not allow for.
    """
    scores = table.of(*table.levels)
    flat = scores.reshape(-1, len(table.seeds))
    run = np.flatnonzero(~np.isnan(flat).all(1))  # configurations
    cell, seed = np.nonzero(~np.isnan(flat[run]))
    freedom = len(cell) - len(run) - len(set(seed)) + 1
    complete = len(cell) == len(run) * len(set(seed))
    if complete or freedom < 1 or len(set(seed)) < 2 or table.at_every_look:
        return pd.DataFrame()
    from statsmodels.regression.mixed_linear_model import MixedLM  # takes a second

    accuracies, design = flat[run][cell, seed], (cell[:, None] == np.arange(len(run))).astype(float)
    try:
        with warnings.catch_warnings(action="ignore"):  # a variance of zero is at the boundary of what is possible
            fit = MixedLM(100 * accuracies, design, groups=seed).fit(reml=True)
    except np.linalg.LinAlgError:  # no spread at all
        return pd.DataFrame()
    covariance = np.asarray(fit.cov_params())[: len(run), : len(run)]
    places = np.full(len(flat), -1)
    places[run] = np.arange(len(run))
    luck = np.nanmean(table.guessing.reshape(flat.shape)[run], 1)
    rows = []
    for axis, (factor, levels) in enumerate(table.levels.items()):
        by_level = np.moveaxis(places.reshape(scores.shape[:-1]), axis, 0).reshape(len(levels), -1)
        for level, treated in zip(levels[1:], by_level[1:], strict=True):
            both = (by_level[0] >= 0) & (treated >= 0)
            if not both.any():
                continue
            contrast = np.zeros(len(run))
            contrast[treated[both]], contrast[by_level[0][both]] = 1 / both.sum(), -1 / both.sum()
            difference, error = contrast @ fit.fe_params / 100, np.sqrt(contrast @ covariance @ contrast) / 100
            half, half_90 = t_isf([ALPHA / 2, ALPHA], freedom) * error
            arms = tuple(fit.fe_params[place[both]].mean() / 100 for place in (by_level[0], treated))
            guessing = np.mean([luck[place[both]] for place in (by_level[0], treated)])
            margin = np.nan if smallest_effect is None else smallest_effect
            rows.append(
                {"factor": factor, "baseline": levels[0], "level": level, "averaged": int(both.sum()), "n": len(cell)}
                | {"difference": difference, "low": difference - half, "high": difference + half, "arms": arms}
                | {"guessing": guessing, "low_90": difference - half_90, "high_90": difference + half_90}
                | {"p": 2 * t_sf(abs(difference) / error, freedom)}
                | {"p_equivalence": t_sf((margin - abs(difference)) / error, freedom)}
            )
    return decided(pd.DataFrame(rows, dtype=object)) if rows else pd.DataFrame()
