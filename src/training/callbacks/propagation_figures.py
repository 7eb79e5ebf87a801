"""Figures of one run's signals. They are Figure objects, drawn without a window or global state."""

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure


def draw_heatmaps(signals: pd.DataFrame) -> Figure:
    """Layer by step: the standard deviation of activations, and the norm of their gradient, on log scales.

    Args:
        signals: signals.csv, see ``PropagationMonitor``.
    """
    layers = signals.drop_duplicates("layer").sort_values("depth")
    named = range(0, len(layers), 1 + len(layers) // 60)  # a deep network has more layers than room for names
    figure = Figure(figsize=(11, 2.2 + 0.17 * len(named)), layout="constrained", dpi=110)
    panels = (
        ("activation_std", "forward: standard deviation of the activations", "viridis"),
        ("activation_gradient", "backward: norm of the gradient at the activations", "magma"),
    )
    for axes, (quantity, title, colours) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        table = signals.pivot(index="depth", columns="step", values=quantity).sort_index()
        values = table.to_numpy(dtype=float)
        positive = values[np.isfinite(values) & (values > 0)]
        norm = LogNorm(positive.min(), max(positive.max(), positive.min() * 1.01)) if positive.size else None
        image = axes.imshow(values, aspect="auto", norm=norm, cmap=colours, interpolation="nearest")
        ticks = np.unique(np.linspace(0, len(table.columns) - 1, 6).round().astype(int))
        axes.set_xticks(ticks, [str(table.columns[i]) for i in ticks])
        axes.set_xlabel("step")
        axes.set_title(title, fontsize=10)
        axes.set_yticks(named, [layers.layer.iloc[place] for place in named], fontsize=7, parse_math=False)
        figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def draw_predictions(predictions: pd.DataFrame) -> Figure:
    """Mean softmax and share of the predictions by class, before the first step and after training.

    Args:
        predictions: predictions.csv, see ``PropagationMonitor``.
    """
    moments = list(predictions.when.unique())
    figure = Figure(figsize=(10, 2.8 * len(moments)), layout="constrained", dpi=110)
    panels = figure.subplots(len(moments), 1, sharex=True, squeeze=False)[:, 0]
    for axes, moment in zip(panels, moments, strict=True):
        rows = predictions[predictions.when == moment]
        places = np.arange(len(rows))
        axes.bar(places - 0.2, rows.predicted, 0.4, label="share of the predictions", color="#4477aa")
        axes.bar(places + 0.2, rows.mean_softmax, 0.4, label="mean softmax", color="#ee7733")
        axes.step(places, rows.actual, where="mid", color="black", linewidth=1, label="share of the labels")
        axes.set_xticks(places, list(rows["class"]), rotation=30, ha="right", parse_math=False)
        axes.set_ylim(0, 1)
        axes.set_title(moment, fontsize=10)
    panels[0].legend(fontsize=8)
    return figure
