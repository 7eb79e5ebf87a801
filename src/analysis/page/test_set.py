"""The section on single test images: what a finite test set explains, and which images a factor fixes and breaks."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.analysis import figures
from src.analysis.effects import Grid, settings_of
from src.analysis.page.cells import NONE, arrow, column, level_columns, note, percent_cell, table_of, text_cell
from src.analysis.page.conclusion import points
from src.analysis.page.page import Cell, Drawing, Section, Table
from src.analysis.test_set import Churn, churn, configurations_on_images, load_all_outcomes, spread_over_seeds
from src.runs.escaping import printable

Images = Callable[[Path], NDArray[np.uint8]]
"""From a run's folder to its test images, uint8 ``[N, 3, S, S]``, in the order of its outcomes."""

_SHOWN = 24


def test_set_sections(
    runs: pd.DataFrame, cells: Grid, factors: Sequence[str], images: Images | None = None
) -> list[Section]:
    """One section, or none if no run has outcomes.

    Args:
        runs: completed ones, see ``load_runs``.
        cells: their grid, for the baseline of each factor.
        images: draws the images that changed most often; None draws none.
    """
    outcomes = load_all_outcomes(runs)
    if not outcomes:
        return []
    table = configurations_on_images(runs, factors, outcomes)
    spreads = [
        (head, lambda row, place=place: NONE if row.spread is None else percent_cell(row.spread[place]))
        for place, head in enumerate(("sd over seeds, points", "of the test set", "beyond it"))
    ]
    columns = [
        *level_columns(factors),
        column("n", "n", "{}"),
        *spreads,
        column("agreement of seeds, %", "agreement", percent_cell),
        column("vote of the seeds, %", "vote", percent_cell),
        ("gain of the vote, points", lambda row: _signed(row.vote - row["mean"])),
    ]
    parts: list[str | Table | Drawing] = []
    groups = [group.folder for _, group in settings_of(runs[runs.folder.isin(outcomes)], factors)]
    if spread := spread_over_seeds([[outcomes[folder].correct for folder in group] for group in groups]):
        parts.append(note("spread", **{name: f"{100 * sd:.2f}" for name, sd in spread._asdict().items()}))
    if len(outcomes) < len(runs):
        parts.append(
            f"{len(runs) - len(outcomes)} of {len(runs)} runs are left out here: they kept no outcomes of single "
            "images, or those of other images."
        )
    parts.append(table_of(table, columns, note("test_set")))
    changes = list(churn(runs, factors, cells.levels, outcomes))
    if changes:
        parts.append(_churn_table(changes, several=len(factors) > 1))
        if images is None:
            parts.append("images=true draws the images that each change fixes or breaks most often.")
        else:
            folder = next(folder for folder in runs.folder if folder in outcomes)
            parts += _drawings(changes, images(folder), outcomes[folder].label, runs.classes.iloc[0])
    return [Section("What single test images say", parts, folded=len(table) > 12)]


def _churn_table(changes: Sequence[Churn], several: bool) -> Table:
    columns = [
        column("factor", "factor", text_cell),
        ("change", lambda change: text_cell(arrow(change.levels))),
        column("pairs", "pairs", "{}"),
        column("fixed, %", "fixed", percent_cell),
        column("broken, %", "broken", percent_cell),
        ("net, points", lambda change: _signed(change.fixed - change.broken)),
        column("agreement, %", "agreement", percent_cell),
    ]
    averaged = ", averaged over the settings of the others" if several else ""
    frame = pd.DataFrame([change._asdict() for change in changes], dtype=object)
    return table_of(frame, columns, note("churn", averaged=averaged))


def _drawings(
    changes: Sequence[Churn], images: NDArray[np.uint8], label: NDArray[np.unsignedinteger], classes: Sequence[str]
) -> list[Drawing]:
    drawings = []
    for place, change in enumerate(changes):
        most = np.argsort(-np.abs(change.flips), kind="stable")[:_SHOWN]
        most = most[change.flips[most] != 0]
        most = most[np.argsort(-change.flips[most], kind="stable")]
        titles = [
            f"{printable(classes[label[i]])[:14]}\n{'fixed' if change.flips[i] > 0 else 'broken'} "
            f"{abs(change.flips[i])}/{change.pairs}"
            for i in most
        ]
        caption = (
            f"{change.factor} {arrow(change.levels)}: the images that it fixes and breaks most often, with their "
            f"class; fixed 3/{change.pairs}: in three more pairs fixed than broken."
        )
        drawings.append(Drawing(f"flips-{place}", figures.draw_images(images[most], titles), caption))
    return drawings


def _signed(difference: float) -> Cell:
    return Cell(points(difference), difference)
