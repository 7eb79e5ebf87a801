"""Figures of an evaluation. They are Figure objects, drawn without a window or global state."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

FEW = 20  # up to so many classes, names and counts fit


def draw_reliability(bins: pd.DataFrame, ece: float, scale: str) -> Figure:
    """Accuracy against confidence, and the number of images by confidence.

    Args:
        bins: see ``measures.reliability``.
        ece: expected calibration error, 0 to 1.
        scale: what was evaluated, in words, for the title.
    """
    figure = Figure(figsize=(5.4, 5.8), layout="constrained", dpi=110)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    width, middle = bins.high - bins.low, (bins.low + bins.high) / 2
    upper.bar(middle, bins.accuracy, width, color="#4477aa", edgecolor="white", label="accuracy")
    upper.plot(bins.confidence, bins.accuracy, "o", color="black", markersize=3, label="mean confidence in the bin")
    upper.plot([0, 1], [0, 1], color="#cc3311", linestyle=":", label="calibrated")
    upper.set(ylabel="accuracy", ylim=(0, 1))
    upper.set_title(f"Reliability ({scale})\nexpected calibration error {ece:.2%}", fontsize=10)
    upper.legend(fontsize=8, loc="upper left")
    lower.bar(middle, bins.images, width, color="#999999", edgecolor="white")
    lower.set(xlim=(0, 1), xlabel="confidence: probability of the predicted class", ylabel="images")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_confusion(counts: np.ndarray, classes: tuple[str, ...], scale: str) -> Figure:
    """Confusion matrix, in % of the true class.

    Args:
        counts: ``[classes, classes]``: rows are true classes, columns predicted ones.
        classes: their names, by index.
        scale: see ``draw_reliability``.
    """
    few = len(classes) <= FEW
    side = 2.2 + 0.45 * len(classes) if few else 10
    figure = Figure(figsize=(side + 0.8, side), layout="constrained", dpi=110)
    axes = figure.subplots()
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    places = range(0, len(classes), 1 + (len(classes) - 1) // 40)
    names = [classes[place] for place in places]
    style: dict[str, Any] = {"fontsize": 8 if few else 6, "parse_math": False}  # show a $ in a name literally
    axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor", **style)
    axes.set_yticks(places, names, **style)
    if few:
        for i, j in np.ndindex(*shares.shape):
            if counts[i, j]:
                colour = "white" if shares[i, j] > 55 else "black"
                axes.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", color=colour, size=7)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(f"Confusion, % of the true class\n({scale})", fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.7)
    return figure


def draw_mistakes(images: Tensor, titles: list[str], scale: str) -> Figure:
    """Wrongly classified images, each above its title.

    Args:
        images: uint8 ``[M, 3, S, S]``.
        titles: ``M`` titles of two lines each.
        scale: see ``draw_reliability``.
    """
    columns, rows = 8, max(1, -(-len(images) // 8))
    figure = Figure(figsize=(11, 0.5 + 1.75 * rows), layout="constrained", dpi=110)
    axes = figure.subplots()
    axes.set_title(f"Most confident mistakes ({scale})" if len(images) else f"No mistakes ({scale})", fontsize=10)
    axes.axis("off")
    for i, (image, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(i, columns)
        extent = (column + 0.06, column + 0.94, row + 0.72, row + 0.04)  # left, right, bottom, top
        axes.imshow(image.permute(1, 2, 0).numpy(), extent=extent, interpolation="nearest", aspect=1.3)
        axes.text(column + 0.5, row + 0.74, title, ha="center", va="top", fontsize=7, parse_math=False)
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    return figure


def draw_corruptions(table: pd.DataFrame, clean: float, scale: str) -> Figure:
    """Accuracy by severity, one line per corruption.

    Args:
        table: columns ``corruption``, ``severity`` (1 to 5), ``accuracy`` (0 to 1), ``accuracy_interval``.
        clean: accuracy without corruption, drawn at severity 0.
        scale: see ``draw_reliability``.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained", dpi=110)
    axes = figure.subplots()
    names = list(table.corruption.unique())
    for i, name in enumerate(names):
        rows = table[table.corruption == name]
        low, high = zip(*rows.accuracy_interval, strict=True)
        colour = colormaps["turbo"](0.08 + 0.84 * i / max(len(names) - 1, 1))
        severities, accuracies = [0, *rows.severity], [100 * clean, *(100 * rows.accuracy)]
        axes.plot(severities, accuracies, marker="osD^vPX*"[i % 8], markersize=4, color=colour, label=name)
        axes.fill_between(rows.severity, [100 * v for v in low], [100 * v for v in high], color=colour, alpha=0.15)
    axes.set_xticks([0, *sorted(table.severity.unique())])
    axes.set(xlabel="severity (0: as it is)", ylabel="accuracy, %")
    axes.set_title(f"Accuracy on corrupted images, 95 % intervals\n({scale})", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
