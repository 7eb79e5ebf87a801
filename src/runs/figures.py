"""Figures of a sweep. They are Figure objects, drawn without a window or global state."""

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from src.runs.compare import configurations
from src.runs.folder import RunFolder

_MARKERS = "osD^vPX*"


def label(row: pd.Series, factors: Sequence[str]) -> str:
    """A configuration in words: its level of each varying factor."""
    return ", ".join(f"{name} {_word(row[name])}" for name in factors) or "all runs"


def _word(level: object) -> str:
    if isinstance(level, bool):
        return "on" if level else "off"
    return str(level)


def _figure(title: str, width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _style(i: int, count: int) -> dict[str, object]:
    """Colour by configuration; a dashed line for every second one, so that neighbours differ twice."""
    return {
        "color": colormaps["turbo"](0.05 + 0.9 * i / max(count - 1, 1)),
        "linestyle": ("-", "--")[i % 2],
        "marker": _MARKERS[i % len(_MARKERS)],
        "markersize": 4,
    }


def draw_accuracy(runs: pd.DataFrame, factors: Sequence[str], scale: str, chance: float) -> Figure:
    """Test accuracy of every configuration: a point per seed, the mean, and the interval where there are seeds.

    Args:
        runs: completed runs, see ``load_runs``.
        factors: what tells the configurations apart.
        scale: the size of the experiment in words, for the title.
        chance: the accuracy of guessing, 0 to 1.
    """
    table = configurations(runs, factors)
    figure, axes = _figure(f"Test accuracy ({scale})", 8, 1.4 + 0.36 * len(table))
    for place, row in table.iterrows():
        axes.scatter([100 * s for s in row.scores], [place] * row.n, s=18, color="#4477aa", alpha=0.6, zorder=3)
        axes.scatter(100 * row["mean"], place, marker="|", s=220, color="black", zorder=4)
        if row.interval is not None:
            low, high = row.interval
            axes.plot([100 * low, 100 * high], [place, place], color="black", linewidth=1)
        axes.annotate(
            f"{row['mean']:.1%}", (100 * row["mean"], place), (0, 9), textcoords="offset points", ha="center", size=8
        )
    axes.axvline(100 * chance, color="#cc3311", linestyle=":", linewidth=1, label="guessing")
    axes.set_yticks(range(len(table)), [label(row, factors) for _, row in table.iterrows()])
    axes.invert_yaxis()
    axes.set_xlabel("test accuracy, %")
    axes.margins(x=0.05, y=0.12)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_loss(runs: pd.DataFrame, factors: Sequence[str], scale: str, classes: int) -> Figure:
    """Training loss by epoch, the mean over seeds, against the loss of guessing.

    Args:
        runs, factors, scale: see ``draw_accuracy``.
        classes: number of classes; guessing costs its natural logarithm.
    """
    table = configurations(runs, factors)
    figure, axes = _figure(f"Training loss ({scale})", 8, 4.6)
    for i, row in table.iterrows():
        histories = pd.concat(pd.read_csv(RunFolder(folder).metrics_file) for folder in row.folders)
        curve = histories.groupby("epoch")["train/loss"].mean()
        axes.plot(curve.index, curve, label=label(row, factors), **_style(int(i), len(table)))  # type: ignore
    axes.axhline(math.log(classes), color="black", linestyle=":", linewidth=1, label=f"guessing, ln {classes}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    axes.set_ylabel("cross-entropy")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_gradients(runs: pd.DataFrame, factors: Sequence[str], scale: str) -> Figure | None:
    """Norm of the gradient at each convolution's weight, at the first step, on a log scale; the mean over seeds.

    Args:
        runs, factors, scale: see ``draw_accuracy``.

    Returns:
        None where no run watched its signals.
    """
    table = configurations(runs, factors)
    figure, axes = _figure(f"Gradient before the first update ({scale})", 8, 4.6)
    drawn = False
    for i, row in table.iterrows():
        files = [file for folder in row.folders if (file := folder / "signals.csv").exists()]
        if not files:
            continue
        signals = pd.concat(pd.read_csv(file) for file in files)
        first = signals[(signals.step == 0) & (signals.kind == "conv")]
        depth = first.groupby("depth").weight_gradient.mean()
        axes.plot(range(1, len(depth) + 1), depth, label=label(row, factors), **_style(int(i), len(table)))  # type: ignore
        drawn = True
    if not drawn:
        return None
    axes.set_yscale("log")
    axes.set_xlabel("convolution, from input to output")
    axes.set_ylabel("norm of the weight's gradient")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
