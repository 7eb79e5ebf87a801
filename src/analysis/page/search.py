"""The section on a search: trials spent on each arm, and the best that was to be expected of so many."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib import pyplot, rc_context

from src.analysis import figures
from src.analysis.page.cells import count_cell, level_cell, percent_cell
from src.analysis.page.page import Drawing, Section, Table
from src.analysis.search import efforts, expected_best
from src.runs.study import read_study

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
    rows = []
    for _, arm in spent.iterrows():
        counts = [count_cell(arm[name]) for name in ("trials", "completed", "pruned", "failed", "epochs")]
        curve = expected_best(arm.scores)
        best = [percent_cell(curve[n - 1] if len(curve) >= n else float("nan")) for n in (1, 5, 20)]
        rows.append(
            [
                *(level_cell(arm[name]) for name in arms),
                *counts,
                *best,
                percent_cell(max(arm.scores, default=float("nan"))),
            ]
        )
    heads = [
        *arms,
        "trials",
        "completed",
        "pruned",
        "failed",
        "epochs",
        "best of 1, %",
        "of 5, %",
        "of 20, %",
        "of all, %",
    ]
    note = (
        "Best of n: the expected highest validation accuracy of n trials, an unbiased estimate from all of the arm's "
        "(Dodge et al. 2019; Tang et al. 2020), exact for independent trials (tuner=random). A pruned trial counts "
        "with the best epoch that it had, so that its arm may be a little better. Arms are to be compared at an equal "
        "number of trials. Each arm was tuned on validation images; all else on this page is about its best trial, "
        "whose validation accuracy is optimistic; the test set had no say."
    )
    drawing = Drawing(
        "budget", figures.draw_budget(spent, arms), "Expected best validation accuracy by the number of trials."
    )
    optuna = [drawing for number, sweep in enumerate(sweeps, start=1) for drawing in _study_figures(sweep, number)]
    return Section("The search", [drawing, Table(heads, rows, note), *optuna])


def _study_figures(sweep: Path, number: int) -> list[Drawing]:
    """Optuna's own figures; those that it cannot draw are left out, as importances of a single trial."""
    study = read_study(sweep)
    if study is None:
        return []
    from optuna.importance import FanovaImportanceEvaluator
    from optuna.visualization import matplotlib as plots

    drawings = []
    with rc_context({"backend": "agg"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about too few trials
        for name, caption in _FIGURES.items():
            options = {"evaluator": FanovaImportanceEvaluator(seed=0)} if name == "param_importances" else {}
            try:
                axes = getattr(plots, f"plot_{name}")(study, **options)
            except (ValueError, RuntimeError):
                continue
            figure = (axes if hasattr(axes, "figure") else axes.flat[0]).figure
            pyplot.close(figure)
            drawings.append(Drawing(f"{name}-{number}", figure, caption))
    return drawings
