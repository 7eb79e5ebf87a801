"""The result, as Markdown and a bar chart."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from src.benchmarks.measure import Row

_COLUMNS = ("work", "ours", "against", "ratio", "goal", "verdict")
_PAGE = """\
# How fast

{machine}

Median (smallest to largest) of the repeats, taken in turns; ratios repeat by repeat. The verdict is the median's,
"within the spread" if some repeats would say otherwise. *Plain loop*: an image at a time through torchvision in two
workers, channels first, looking at the loss in every step. *The same by hand*: our batches, kernels and metrics in a
loop without Lightning. *Arithmetic*: floating-point operations of the network a second, thrice those of its forward
pass for training. *Input's share*: what a batch takes to be cropped, flipped and normalised, against the whole step.

{table}
"""


def _number(value: float) -> str:
    """Three significant digits, with a thousands separator."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:g}"


def _spread(values: Sequence[float]) -> str:
    """Median, and smallest to largest if there are several."""
    middle, low, high = (_number(of(values)) for of in (median, min, max))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def cells(row: Row) -> list[str]:
    """One row as text, one string per column."""
    verdict = {None: "", True: "met", False: "missed"}[row.met]
    values = row.ratios or row.ours
    if row.goal is not None and values and min(values) < row.goal < max(values):
        verdict += ", within the spread"
    return [
        row.work + (f" ({row.note})" if row.note else ""),
        f"{_spread(row.ours)} {row.unit}" if row.ours else "not reached",
        f"{_spread(row.against)} {row.unit}: {row.other}" if row.against else "",
        _spread(row.ratios) if row.against else "",
        f"{row.bound} {row.goal:g}" if row.goal is not None else "",
        verdict,
    ]


def markdown(rows: Sequence[Row], machine: dict[str, Any], unmeasured: Sequence[str]) -> str:
    """For the screen and a file; ``unmeasured`` names what is missing."""
    lines = [f"| {' | '.join(line)} |" for line in (_COLUMNS, ["---"] * len(_COLUMNS), *map(cells, rows))]
    lines += ["", f"Not measured, for lack of time: {'; '.join(unmeasured)}."] * bool(unmeasured)
    return _PAGE.format(machine=", ".join(f"{name} {value}" for name, value in machine.items()), table="\n".join(lines))


def draw(rows: Sequence[Row]) -> Figure:
    """Ratios with their spread, and the goals."""
    compared = [row for row in rows if row.against]
    figure = Figure(figsize=(9, 1.5 + 0.25 * len(compared)), layout="constrained", dpi=110)
    axes = figure.subplots()
    for place, row in enumerate(compared):
        low, middle, high = min(row.ratios), median(row.ratios), max(row.ratios)
        color = {None: "#888888", True: "#228833", False: "#cc6677"}[row.met]
        axes.errorbar(middle, place, xerr=[[middle - low], [high - middle]], fmt="o", color=color, capsize=2)
        if row.goal is not None:
            axes.plot(row.goal, place, "|", color="black", markersize=14)
    axes.axvline(1, color="black", linestyle=":", linewidth=1)
    axes.set_title("Ratio: median and span; stroke: the goal, met (green) or missed (red); dotted: as fast as", size=10)
    axes.set_yticks(range(len(compared)), [f"{row.work} / {row.other}" for row in compared], size=8)
    axes.set(xscale="log", ylim=(len(compared) - 0.5, -0.5))
    axes.grid(axis="x", alpha=0.3)
    return figure
