"""The result, as a table on the screen, Markdown and a bar chart."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from src.benchmarks.measure import Row

_COLUMNS = ("work", "ours", "against", "ratio", "goal", "")


def _number(value: float) -> str:
    """Three significant digits, thousands told apart."""
    if abs(value) >= 100:
        digits = len(f"{abs(value):.0f}") - 3
        return f"{round(value, -max(digits, 0)):,.0f}"
    return f"{value:.3g}"


def _spread(values: Sequence[float]) -> str:
    """Median, and smallest to largest where there are several."""
    if len(values) == 1:
        return _number(values[0])
    return f"{_number(median(values))} ({_number(min(values))} to {_number(max(values))})"


def _ratio(ratios: Sequence[float]) -> str:
    low, middle, high = min(ratios), median(ratios), max(ratios)
    return f"{middle:.2f}" if len(ratios) == 1 else f"{middle:.2f} ({low:.2f} to {high:.2f})"


def cells(row: Row) -> list[str]:
    """One row in words, a string a column."""
    verdict = {None: "", True: "met", False: "missed"}[row.met]
    return [
        row.work + (f" ({row.note})" if row.note else ""),
        f"{_spread(row.ours)} {row.unit}" if row.ours else "not reached",
        f"{_spread(row.against)} {row.unit}: {row.other}" if row.against else "",
        _ratio(row.ratios) if row.against else "",
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
        drawn.add_row(*words, {"met": "[green]met", "missed": "[red]missed"}.get(verdict, ""))
    return drawn


def markdown(rows: Sequence[Row], machine: dict[str, Any]) -> str:
    """For a file."""
    lines = [list(_COLUMNS), ["---"] * len(_COLUMNS), *map(cells, rows)]
    return "\n".join(
        [
            "# How fast",
            "",
            ", ".join(f"{name} {value}" for name, value in machine.items()),
            "",
            "Median (smallest to largest) of the repeats, taken in turns; ratios repeat by repeat.",
            "",
            *("| " + " | ".join(line) + " |" for line in lines),
            "",
            "![ratios](ratios.png)",
            "",
        ]
    )


def draw(rows: Sequence[Row]) -> Figure:
    """Ratios to what others do, with their spread and the goals."""
    compared = [row for row in rows if row.against]
    figure = Figure(figsize=(9, 1.2 + 0.42 * max(len(compared), 1)), layout="constrained", dpi=110)
    axes = figure.subplots()
    for place, row in enumerate(compared):
        low, middle, high = min(row.ratios), median(row.ratios), max(row.ratios)
        color = {None: "#888888", True: "#228833", False: "#cc6677"}[row.met]
        axes.barh(place, middle, color=color, height=0.6, xerr=[[middle - low], [high - middle]], ecolor="black")
        axes.annotate(f"{middle:.2f}", (high, place), (5, 0), textcoords="offset points", va="center", size=8)
        if row.goal is not None:
            axes.plot([row.goal, row.goal], [place - 0.4, place + 0.4], color="black", linewidth=2)
    axes.axvline(1, color="black", linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_yticks(range(len(compared)), [f"{row.work}\nagainst {row.other}" for row in compared], size=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("ours to theirs; the thick line is the goal, green where it is met")
    axes.set_title("Ratios, median and span of the repeats", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
