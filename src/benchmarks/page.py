"""The result, as a table on the screen, Markdown and a bar chart."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

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


def _short(ratio: float) -> str:
    """Two decimals, or two significant digits of a small one."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def _spread(values: Sequence[float], show: Callable[[float], str] = _number) -> str:
    """Median, and smallest to largest if there are several."""
    middle, low, high = (show(of(values)) for of in (median, min, max))
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
        _spread(row.ratios, _short) if row.against else "",
        f"{row.bound} {row.goal:g}" if row.goal is not None else "",
        verdict,
    ]


def table(rows: Sequence[Row], title: str) -> Table:
    """For the screen."""
    drawn = Table(title=title, title_justify="left", row_styles=["", "dim"])
    for column in _COLUMNS:
        drawn.add_column(column, justify="right" if column in ("ratio", "goal") else "left", overflow="fold")
    for row in rows:
        *words, verdict = cells(row)
        drawn.add_row(*words, {True: "[green]", False: "[red]", None: ""}[row.met] + verdict)
    return drawn


def markdown(rows: Sequence[Row], machine: dict[str, Any]) -> str:
    """For a file."""
    lines = [f"| {' | '.join(line)} |" for line in (_COLUMNS, ["---"] * len(_COLUMNS), *map(cells, rows))]
    if any(row.against for row in rows):
        lines += ["", "![ratios](ratios.png)"]
    words = ", ".join(f"{name} {value}" for name, value in machine.items())
    return _PAGE.format(machine=words, table="\n".join(lines))


def draw(rows: Sequence[Row]) -> Figure:
    """Ratios with their spread and the goals, one panel per competitor."""
    panels = {other: [row for row in rows if row.other == other] for other in dict.fromkeys(row.other for row in rows)}
    panels.pop(None, None)
    heights = [len(of_panel) + 1.5 for of_panel in panels.values()]
    figure = Figure(figsize=(9, 1 + 0.25 * sum(heights)), layout="constrained", dpi=110)
    title = (
        "Median and span of the ratios; thick: the goal, green where it is met, red where missed; dotted: as fast as"
    )
    figure.suptitle(title, fontsize=10)
    grid = figure.subplots(len(panels), squeeze=False, height_ratios=heights)
    for axes, (other, of_panel) in zip(grid[:, 0], panels.items(), strict=True):
        _draw_panel(axes, of_panel)
        axes.set_title(f"against {other}", fontsize=9, loc="left")
    return figure


def _draw_panel(axes: Axes, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        low, middle, high = min(row.ratios), median(row.ratios), max(row.ratios)
        color = {None: "#888888", True: "#228833", False: "#cc6677"}[row.met]
        axes.barh(place, middle, color=color, height=0.6, xerr=[[middle - low], [high - middle]], ecolor="black")
        if row.goal is not None:
            axes.plot([row.goal, row.goal], [place - 0.4, place + 0.4], color="black", linewidth=2)
        end = max(high, row.goal or 0)
        axes.annotate(_short(middle), (end, place), (5, 0), textcoords="offset points", va="center", size=8)
    axes.axvline(1, color="black", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(rows)), [row.work for row in rows], size=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1.15 * max(1, *(max(*row.ratios, row.goal or 0) for row in rows)))
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
