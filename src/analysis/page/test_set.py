"""The section on single test images: what a finite test set explains, and which images a factor fixes and breaks."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.analysis import figures
from src.analysis.effects import Grid, settings_of
from src.analysis.page.cells import NONE, arrow, count_cell, level_cell, percent_cell, text_cell
from src.analysis.page.conclusion import points
from src.analysis.page.page import Cell, Drawing, Section, Table
from src.analysis.test_set import Churn, Spread, churn, configurations_on_images, load_all_outcomes, spread_over_seeds
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
    rows = []
    for _, row in table.iterrows():
        shares = [NONE] * 3 if row.spread is None else [percent_cell(value) for value in row.spread[:3]]
        vote = [percent_cell(row.vote), _signed(row.vote - row["mean"])]
        levels = [level_cell(row[name]) for name in factors]
        rows.append([*levels, count_cell(row.n), *shares, percent_cell(row.agreement), *vote])
    heads = [*factors, "n", "sd over seeds, points", "of the test set", "beyond it", "agreement of seeds, %"]
    heads += ["vote of the seeds, %", "gain of the vote, points"]
    note = (
        "The standard deviation (sd) of the test accuracy over seeds, its part that the finite test set explains, and "
        "the part beyond it: the spread to expect on an infinite test set; variances add up. The first part is the "
        "root of the sum over images of p (1 - p), divided by the number of images squared, p being the share of seeds "
        "that are right; unbiased estimates, cut at 0 (Jordan 2023, arXiv:2304.01910). Agreement: share of test "
        "images for which two seeds predict one class, averaged over pairs. Vote: accuracy of the class most seeds "
        "predict; a tie counts as the share of its classes that are right."
    )
    parts: list[str | Table | Drawing] = []
    groups = [[outcomes[folder].correct for folder in group] for group in _groups(runs, factors, outcomes)]
    if spread := spread_over_seeds(groups):
        parts.append(_in_words(spread))
    if len(outcomes) < len(runs):
        parts.append(
            f"{len(runs) - len(outcomes)} of {len(runs)} runs are left out here: they kept no outcomes of single "
            "images, or those of other images."
        )
    parts.append(Table(heads, rows, note))
    changes = list(churn(runs, factors, cells.levels, outcomes))
    if changes:
        parts.append(_churn_table(changes, several=len(factors) > 1))
        if images is None:
            parts.append("images=true draws the images that each change fixes or breaks most often.")
        else:
            folder = next(folder for folder in runs.folder if folder in outcomes)
            parts += _drawings(changes, images(folder), outcomes[folder].label, runs.classes.iloc[0])
    return [Section("What single test images say", parts, folded=len(rows) > 12)]


def _in_words(spread: Spread) -> str:
    return (
        f"Over seeds, the test accuracy has a standard deviation of {_plain(spread.observed)} points, of which "
        f"{_plain(spread.test_set)} is the finite test set's; beyond it: {_plain(spread.beyond)} (95 % interval "
        f"{_plain(spread.low)} to {_plain(spread.high)}). Pooled over configurations."
    )


def _churn_table(changes: Sequence[Churn], several: bool) -> Table:
    rows = []
    for change in changes:
        cells = [text_cell(change.factor), text_cell(arrow(change.levels)), count_cell(change.pairs)]
        cells += [percent_cell(change.fixed), percent_cell(change.broken), _signed(change.fixed - change.broken)]
        rows.append([*cells, percent_cell(change.agreement)])
    averaged = ", averaged over the settings of the others" if several else ""
    note = (
        "Shares of the test images that the change turns from wrong to right (fixed) and from right to wrong (broken), "
        f"within pairs of runs that differ in this factor alone and have the same seed{averaged}. Net is the effect on "
        "the accuracy. Agreement: the share for which both predict one class; compare it with that of seeds above, "
        "which is chance alone."
    )
    heads = ["factor", "change", "pairs", "fixed, %", "broken, %", "net, points", "agreement, %"]
    return Table(heads, rows, note)


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


def _groups(runs: pd.DataFrame, factors: Sequence[str], known: Mapping[Path, object]) -> list[list[Path]]:
    return [group.folder.tolist() for _, group in settings_of(runs[runs.folder.isin(known)], factors)]


def _plain(difference: float) -> str:
    return f"{100 * difference:.2f}"


def _signed(difference: float) -> Cell:
    return Cell(points(difference), difference)
