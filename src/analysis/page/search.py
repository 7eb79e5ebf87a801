"""The section on a search: trials spent on each arm, and the best that was to be expected of so many."""

import math
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib import pyplot, rc_context

from src.analysis import figures
from src.analysis.page.cells import Column, column, level_columns, note, percent_cell, table_of
from src.analysis.page.page import Cell, Drawing, Section
from src.analysis.search import efforts, expected_best
from src.runs.study import FILE, read_study

SEARCH = "The search"  # title of the section
_FIGURES = {
    "optimization_history": "The objective by trial, and the best so far.",
    "param_importances": "The share of the variance that each setting explains (fANOVA, Hutter et al. 2014).",
    "parallel_coordinate": "Each trial as a line through its settings.",
    "slice": "The objective by each setting.",
}


def search_section(everything: pd.DataFrame, arms: Sequence[str], sweeps: Sequence[Path]) -> Section:
    """Trials, the expected best validation accuracy by their number, and Optuna's figures of each sweep's study.

    Args:
        everything: all jobs, see ``load_runs``.
        arms: see ``src.analysis.search``.
    """
    spent = efforts(everything, arms)
    columns: list[Column] = [
        *level_columns(arms),
        *(column(name, name, "{}") for name in ("trials", "completed", "pruned", "failed", "epochs")),
        *((f"{'best ' * (n == 1)}of {n}, %", partial(_best_of, n)) for n in (1, 5, 20)),
        ("of all, %", lambda arm: percent_cell(max(arm.scores, default=math.nan))),
    ]
    caption = "Expected best validation accuracy by the number of trials."
    drawing = Drawing("budget", figures.draw_budget(spent, arms), caption)
    optuna = [part for number, sweep in enumerate(sweeps, start=1) for part in _study_figures(sweep, number)]
    return Section(SEARCH, [drawing, table_of(spent, columns, note("search")), *optuna])


def _best_of(n: int, arm: pd.Series) -> Cell:
    curve = expected_best(arm.scores)
    return percent_cell(curve[n - 1] if len(curve) >= n else math.nan)


def _study_figures(sweep: Path, number: int) -> Sequence[str | Drawing]:
    """Optuna's own figures, or why there are none; those that it cannot draw are left out, as importances of a single
    trial."""
    if not (sweep / FILE).exists():
        return []
    try:
        study = read_study(sweep)
    except ValueError as error:
        return [str(error)]
    from optuna.importance import FanovaImportanceEvaluator
    from optuna.visualization import matplotlib as plots

    drawings: list[Drawing] = []
    with rc_context({"backend": "agg"}), warnings.catch_warnings(action="ignore"):  # about too few trials
        for name, caption in _FIGURES.items():
            options = {"evaluator": FanovaImportanceEvaluator(seed=0)} if name == "param_importances" else {}
            try:
                axes = getattr(plots, f"plot_{name}")(study, **options)
            except Exception:  # Optuna takes what is in the file for its own
                pyplot.close("all")  # what it had begun
                continue
            figure = (axes if hasattr(axes, "figure") else axes.flat[0]).figure
            pyplot.close(figure)
            drawings.append(Drawing(f"{name}-{number}", figure, caption))
    return drawings
