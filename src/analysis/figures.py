"""Figures of a sweep. They are Figure objects, drawn without a window or global state.

They are drawn on white; ``for_page`` adapts one to the reader's light or dark theme.
"""

import logging
import math
from collections.abc import Callable, Sequence
from io import BytesIO, StringIO
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from src.analysis.effects import settings_of
from src.analysis.search import expected_best
from src.analysis.statistics import Verdict
from src.analysis.table import SELECTION, WORDS, judged_by, load_curves
from src.runs.escaping import printable
from src.runs.files import LARGEST_SIGNALS, read_regular
from src.runs.identity import ABSENT

log = logging.getLogger(__name__)

# Legible on white and on black; neighbours also differ in lightness, for colour-blind readers.
_COLOURS = ("#2f7fd0", "#d9622b", "#2a9d6f", "#a05fd0", "#b8890b", "#d6497f", "#1f9fb0", "#808080")
_MARKERS = "osD^vPX*"
_INK, _PAPER = "#1b1b1e", "#fffffe"  # replaced by the page's own colours
_MOST_LINES, _MOST_PANELS, _MOST_TIPS = 8, 12, 30
_HEAT = LinearSegmentedColormap.from_list("heat", ["#f3ead7", "#e8b04b", "#c2553a", "#5b1f49"])


def level_name(level: object) -> str:
    """A factor's level in words."""
    if isinstance(level, bool):
        return "on" if level else "off"
    if level in ("on", "off", "None"):  # text, not a value; a choice may be called none
        return f"'{level}'"
    if isinstance(level, list):
        return f"[{', '.join(map(level_name, level))}]"
    if isinstance(level, dict) and "_target_" in level:  # as one would write it in Python
        given = ", ".join(f"{key}={level_name(value)}" for key, value in level.items() if key != "_target_")
        return f"{printable(level['_target_']).rpartition('.')[2]}({given})"
    return f"{level:g}" if isinstance(level, float) else printable(level)


def label(levels: pd.Series | dict[str, Any], factors: Sequence[str]) -> str:
    """A configuration in words: its level of each varying factor."""
    there = (name for name in factors if levels[name] != ABSENT)
    return ", ".join(f"{name} {level_name(levels[name])}" for name in there) or "all runs"


# ---- Drawing and saving --------------------------------------------------------------------------------------


_LOOK: dict[Any, Any] = (
    dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK)
    | {"figure.facecolor": _PAPER, "axes.facecolor": "none", "legend.framealpha": 0.0}
    | {"axes.spines.top": False, "axes.spines.right": False}
    | {"axes.grid": True, "grid.color": "#888888", "grid.alpha": 0.25, "grid.linewidth": 0.6}
    | {"font.size": 9, "axes.titlesize": 9, "legend.fontsize": 8.5}
    | {"text.parse_math": False}  # show a dollar sign in a name literally
    | {"svg.hashsalt": "report"}  # reproducible files
)


def to_svg(figure: Figure) -> str:
    """The drawing on white, as SVG."""
    buffer = StringIO()
    with rc_context(_LOOK):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def for_page(svg: str) -> str:
    """Adapt the result of ``to_svg`` to a page: no background; ink dark on a light page and light on a dark one."""
    style = (
        f"<style>:root{{--ink:{_INK}}}@media screen and (prefers-color-scheme:dark){{:root{{--ink:#e4e4e7}}}}</style>"
    )
    start, defs, rest = svg.partition("<defs>")
    return start + style + defs + rest.replace(_INK, f"var(--ink,{_INK})").replace(_PAPER, "none")


class Chart(Figure):
    """A figure some of whose points say on the page what they are; ``tips`` has them: axes, x, y and the text."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.tips: list[tuple[Axes, float, float, str]] = []

    def spots(self) -> list[tuple[float, float, str]]:
        """The tips by their place in the drawn figure, in percent of its width and height from the top left."""
        places = [(*(axes.transData.transform((x, y)) / self.bbox.size), text) for axes, x, y, text in self.tips]
        return [(100 * x, 100 - 100 * y, text) for x, y, text in places if 0 <= x <= 1 and 0 <= y <= 1]


def _figure(width: float, height: float, **grid: Any) -> tuple[Chart, np.ndarray]:
    figure = Chart(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(squeeze=False, **grid)


def _line(place: int) -> dict[str, Any]:
    """The line style of one level; every second line is dashed, so that neighbours differ in colour and style."""
    colour = _COLOURS[place % len(_COLOURS)]
    return {"color": colour, "linestyle": ("-", "--")[place % 2], "marker": _MARKERS[place % len(_MARKERS)],
            "markersize": 3.5, "linewidth": 1.5}  # fmt: skip


# ---- Results -------------------------------------------------------------------------------------------------


def draw_accuracy(table: pd.DataFrame, factors: Sequence[str], chance: float) -> Figure:
    """Test accuracy of every configuration: a point per seed, the mean, and the interval if there are several seeds.

    Args:
        table: see ``configurations`` in ``src.analysis.effects``.
        factors: in which the configurations differ.
        chance: the accuracy of guessing, 0 to 1; shown if it is near. 0 for none.
    """
    with rc_context(_LOOK):
        figure, axes = _figure(8, 0.9 + 0.34 * len(table))
        ax: Axes = axes[0, 0]
        names = [label(row, factors) for _, row in table.iterrows()]
        for place, row in table.iterrows():
            for seed, accuracy in zip(row.seeds, row.scores, strict=True):
                figure.tips.append((ax, 100 * accuracy, place, f"{names[place]}, seed {seed}: {accuracy:.2%}"))
            ax.annotate(f"{row['mean']:.1%}", (1.01, place), xycoords=("axes fraction", "data"), va="center", size=8.5)
        _, accuracies, places, _ = zip(*figure.tips, strict=True)
        ax.scatter(accuracies, places, s=20, color=_COLOURS[0], alpha=0.75, zorder=3)
        low, mean, high = (100 * table[name].astype(float) for name in ("low", "mean", "high"))
        ax.hlines(table.index, low, high, color=_INK, linewidth=1)
        ax.scatter(mean, table.index, marker="|", s=180, color=_INK, zorder=4)
        least, most = min(accuracies), max(accuracies)
        if least < 300 * chance:
            ax.axvline(100 * chance, color="#cc3311", linestyle=":", linewidth=1.2)
            ax.annotate("guessing", (100 * chance, -0.55), color="#cc3311", size=8, ha="center", va="bottom")
            least = min(least, 100 * chance)
        margin = max(0.6 * (most - least), 1.0)  # wider intervals, as of two seeds, are cut off
        ax.set(xlim=(max(least - margin, -1), min(most + margin, 101)), ylim=(len(table) - 0.4, -0.6))
        ax.set_yticks(table.index, names)
        ax.set_xlabel(f"{WORDS[table.attrs['metric']]}, %")
        ax.grid(axis="y", visible=False)
    return figure


def draw_effects(effects: pd.DataFrame, smallest_effect: float | None) -> Figure | None:
    """The difference that each change makes, with its interval, and the range of differences that do not matter.

    Args:
        effects: see ``src.analysis.effects.main_effects``; of more than 16 those of the largest difference are drawn.

    Returns:
        None if nothing has an interval.
    """
    shown = effects[effects.n > 1] if len(effects) else effects
    if shown.empty:
        return None
    shown = shown.loc[shown.difference.abs().nlargest(16).index].sort_index()
    colours = {Verdict.DIFFERS: _COLOURS[1], Verdict.EQUIVALENT: _COLOURS[2]}
    with rc_context(_LOOK):
        figure, axes = _figure(6, 0.95 + 0.34 * len(shown))
        ax: Axes = axes[0, 0]
        if smallest_effect:
            ax.axvspan(-100 * smallest_effect, 100 * smallest_effect, color=_COLOURS[2], alpha=0.15, lw=0)
        ax.axvline(0, color=_INK, linewidth=0.8)
        names = []
        for place, (_, effect) in enumerate(shown.iterrows()):
            names.append(f"{effect.factor} {level_name(effect.level)} against {level_name(effect.baseline)}")
            look: dict[str, Any] = {"color": colours.get(effect.verdict, _COLOURS[7]), "linewidth": 2.2}
            ax.plot([100 * effect.low, 100 * effect.high], [place, place], **look)
            ax.plot(100 * effect.difference, place, "o", **look)
            interval = f"{100 * effect.difference:+.2f} points [{100 * effect.low:+.2f}, {100 * effect.high:+.2f}]"
            tip = f"{names[-1]}: {effect.verdict}, {interval}, n = {effect.n}"
            figure.tips.append((ax, 100 * effect.difference, place, tip))
        widest = max(100 * shown.difference.abs().max(), 150 * (smallest_effect or 0), 0.1)
        ax.set(xlabel="difference, points", ylim=(len(shown) - 0.4, -0.6))
        ax.set_xlim(-2 * widest, 2 * widest)  # wider intervals are cut off
        ax.set_yticks(range(len(shown)), names)
        ax.grid(axis="y", visible=False)
    return figure


def draw_budget(spent: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """The expected best validation accuracy by the number of trials, one line per arm.

    Args:
        spent: see ``src.analysis.search.efforts``.
    """
    with rc_context(_LOOK):
        figure, axes = _figure(8, 3.6)
        for place, (_, arm) in enumerate(spent.iterrows()):
            curve = 100 * expected_best(arm.scores)
            axes[0, 0].plot(range(1, len(curve) + 1), curve, label=label(arm, arms), **_line(place))
        axes[0, 0].set(xlabel="trials", ylabel="expected best validation accuracy, %")
        axes[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[0, 0].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_tuning(tried: pd.DataFrame, others: Sequence[str], tuned: str) -> Figure:
    """The runs' score by level of the tuned factor, one line per combination of the others, chosen level ringed.

    Args:
        tried: see ``src.analysis.effects.trials``.
    """
    with rc_context(_LOOK):
        figure, axes = _figure(8, 3.6)
        ax = axes[0, 0]
        score, groups = tried.attrs["score"], list(settings_of(tried, others))
        for place, (levels, group) in enumerate(groups):
            x, y = group[tuned].astype(float), (100 if score.is_share else 1) * group.validation.astype(float)
            ax.plot(x, y, label=label(levels, others), **_line(place))
            chosen = group.chosen.astype(bool)
            ax.scatter(x[chosen], y[chosen], s=110, facecolors="none", edgecolors=_INK, linewidths=1.2, zorder=4)
        if (tried[tuned].astype(float) > 0).all():
            ax.set_xscale("log")
        if len(values := sorted(set(tried[tuned].astype(float)))) <= 10:  # ticks at the values themselves
            ax.minorticks_off()
            ax.set_xticks(values, [f"{value:g}" for value in values])
        ax.set(xlabel=tuned, ylabel=score.words + (", %" if score.is_share else ""))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_heatmap(runs: pd.DataFrame, factors: Sequence[str]) -> Figure | None:
    """The grid: mean accuracy, columns by the factor with most levels, rows by the others.

    Returns:
        None for fewer than two factors, or a grid too large to read.
    """
    if len(factors) < 2:
        return None
    across = max(factors, key=lambda factor: runs[factor].map(repr).nunique())
    down = [factor for factor in factors if factor != across]
    columns = list({repr(level): level for level in runs[across]}.values())
    rows = [levels for levels, _ in settings_of(runs, down)]
    if len(rows) > 40 or len(columns) > 20:
        return None
    keys = [["|".join(repr(run[name]) for name in names) for _, run in runs.iterrows()] for names in (down, [across])]
    found = (100 * runs[judged_by(runs)]).groupby(keys, sort=False).agg(["mean", "size"]).unstack()
    order = {"index": dict.fromkeys(keys[0]), "columns": dict.fromkeys(keys[1])}
    values = found["mean"].reindex(**order).to_numpy(float)
    counts = found["size"].reindex(**order).fillna(0).to_numpy(int)
    with rc_context(_LOOK):
        names = [label(levels, down) for levels in rows]
        figure, axes = _figure(1 + 0.075 * max(map(len, names)) + 0.95 * len(columns), 1.1 + 0.36 * len(rows))
        texts = [
            [f"{v:.1f}" + (f" (n={n})" if n != counts.max() else "") if n else "–" for v, n in zip(vs, ns, strict=True)]
            for vs, ns in zip(values, counts, strict=True)
        ]
        _cells(axes[0, 0], values, texts)
        axes[0, 0].set_xticks(range(len(columns)), [level_name(level) for level in columns])
        axes[0, 0].set_yticks(range(len(rows)), names)
        axes[0, 0].set_xlabel(across)
    return figure


def draw_classes(runs: pd.DataFrame, factors: Sequence[str]) -> Figure | None:
    """Test accuracy by class, the mean over seeds; of more than 20 classes only those of the lowest accuracy.

    Returns:
        None if no run recorded it, or there are too many configurations to read.
    """
    groups = [(levels, found) for levels, group in settings_of(runs, factors) if len(found := group.by_class.dropna())]
    if not groups or len(groups) > 40:
        return None
    table = pd.DataFrame([pd.DataFrame(list(found)).astype(float).mean() for _, found in groups])
    if table.shape[1] > 20:
        table = table[table.mean().nsmallest(20).index]
    with rc_context(_LOOK):
        names = [label(levels, factors) for levels, _ in groups]
        figure, axes = _figure(1 + 0.075 * max(map(len, names)) + 0.62 * table.shape[1], 1.3 + 0.34 * len(table))
        values = 100 * table.to_numpy(float)
        _cells(axes[0, 0], values, [["–" if np.isnan(v) else f"{v:.0f}" for v in row] for row in values])
        axes[0, 0].set_xticks(range(table.shape[1]), table.columns, rotation=35, ha="right", rotation_mode="anchor")
        axes[0, 0].set_yticks(range(len(table)), names)
    return figure


def draw_images(images: np.ndarray, titles: Sequence[str]) -> Figure:
    """Images ``[M, 3, S, S]``, uint8, each above its title of two lines; twelve to a row."""
    rows = max(1, -(-len(images) // 12))
    with rc_context(_LOOK):
        figure, panels = _figure(11, 1.3 * rows, nrows=rows, ncols=12)
        for axes in panels.flat:
            axes.axis("off")
        for axes, image, title in zip(panels.flat, images, titles, strict=False):
            axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
            axes.text(0.5, -0.05, title, ha="center", va="top", fontsize=7, transform=axes.transAxes)
    return figure


def _cells(axes: Axes, values: np.ndarray, texts: list[list[str]]) -> None:
    """A heatmap with its values as text."""
    low, high = np.nanmin(values), np.nanmax(values)
    axes.imshow(values, cmap=_HEAT, vmin=low, vmax=max(high, low + 1), aspect="auto")
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            dark = not np.isnan(values[i, j]) and values[i, j] > low + 0.55 * max(high - low, 1)
            shown = _INK if np.isnan(values[i, j]) else "#ffffff" if dark else "#202020"
            axes.text(j, i, text, ha="center", va="center", size=8.5, color=shown)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def draw_cost(table: pd.DataFrame, factors: Sequence[str]) -> Figure:
    """Mean accuracy against cost: seconds of training, with the range over runs, and FLOPs per image if these
    vary. The Pareto front joins configurations that no other one beats in both cost and accuracy.

    The configurations of highest accuracy each have a colour and are named above the panels.

    Args:
        table: see ``configurations`` in ``src.analysis.effects``.
    """
    table = table.sort_values("mean", ascending=False, kind="stable")
    few = len(table) <= _MOST_LINES  # then each looks as in the figures of curves
    styles = table.index if few else range(len(table))
    named = len(table) if few else len(_COLOURS) - 1  # the last one is the colour of all others
    table = table.reset_index(drop=True)
    y = 100 * table["mean"].astype(float)
    costs = {"seconds of training": table.seconds.astype(float)}
    if table.flops_per_image.astype(float).nunique() > 1:
        costs["GFLOP per image, forward"] = table.flops_per_image.astype(float) / 1e9
    with rc_context(_LOOK):
        figure, axes = _figure(8, 4.2, ncols=len(costs), sharey=True)
        for ax, (title, x) in zip(axes[0], costs.items(), strict=True):
            spans = title.startswith("seconds")
            if spans:
                ends = [(min(each, default=math.nan), max(each, default=math.nan)) for each in table.all_seconds]
                colours = [_COLOURS[min(style, len(_COLOURS) - 1)] for style in styles]
                ax.hlines(y, *zip(*ends, strict=True), color=colours)
            for place, row in table.iterrows():
                tip = f"{label(row, factors)}: {y[place]:.2f} %, {x[place]:,.3g} {title}"
                figure.tips.append((ax, x[place], y[place], tip))
                if place < named:
                    name = ", ".join(level_name(row[factor]) for factor in factors)
                    look = _line(styles[place]) | {"linestyle": "none", "markersize": 6}
                    ax.plot(x[place], y[place], **look, label=name)
            ax.plot(x[named:], y[named:], ".", color=_COLOURS[-1], markersize=6)
            if not spans:
                front = pareto_front(x.to_numpy(), y.to_numpy())
                ax.plot(x[front], y[front], color=_COLOURS[-1], drawstyle="steps-post", linewidth=1, zorder=1)
            ax.set_xlabel(title)
            ax.margins(x=0.15, y=0.12)
            if x.max() > 20 * x.min() > 0:
                ax.set_xscale("log")
        axes[0, 0].set_ylabel(f"{WORDS[table.attrs['metric']]}, %")
        _legend(figure)
    return figure


def pareto_front(costs: np.ndarray, scores: np.ndarray) -> list[int]:
    """Indices of the points that no other one beats in both cost and score, cheapest first."""
    front: list[int] = []
    for place in np.lexsort((-scores, costs)):
        if not front or scores[place] > scores[front[-1]]:
            front.append(int(place))
    return front


# ---- Curves --------------------------------------------------------------------------------------------------


def draw_learning(runs: pd.DataFrame, factors: Sequence[str]) -> Figure:
    """Validation accuracy by epoch (training accuracy if there was no validation): the mean over seeds, and a band
    from the lowest to the highest seed."""
    curves = load_curves(runs, factors)
    metric, words = (SELECTION, "validation") if SELECTION in curves else ("train/accuracy", "training")
    curves[metric] = 100 * curves[metric]
    return _curves(curves, factors, metric, f"{words} accuracy, %")


def draw_loss(runs: pd.DataFrame, factors: Sequence[str], classes: int | None) -> Figure:
    """Training loss by epoch, as ``draw_learning``, against the loss of guessing.

    Args:
        classes: number of classes; the loss of guessing is its natural logarithm. None shows none.
    """

    def guessing(axes: Axes) -> None:
        if classes and axes.get_ylim()[1] > 0.8 * math.log(classes):
            axes.axhline(math.log(classes), color="#cc3311", linestyle=":", linewidth=1.2)
            axes.annotate(
                f"guessing, ln {classes}", (0.99, math.log(classes)), xycoords=("axes fraction", "data"),
                color="#cc3311", size=8, ha="right", va="bottom",
            )  # fmt: skip

    return _curves(load_curves(runs, factors), factors, "train/loss", "training loss", finish=guessing)


def draw_gradients(runs: pd.DataFrame, factors: Sequence[str]) -> Figure | None:
    """Norm of the gradient at each convolution's weight, at the first step, on a log scale, as ``draw_learning``.

    Returns:
        None if no run recorded its signals.
    """
    found = []
    for _, run in runs.iterrows():
        file = run.folder / "signals.csv"
        kinds = {"step": float, "depth": float, "kind": str, "weight_gradient": float}
        try:
            signals = pd.read_csv(BytesIO(read_regular(file, LARGEST_SIGNALS)), usecols=list(kinds), dtype=kinds)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            told = f"{file} is damaged ({error}); the figure of the gradients is without this run."
            log.warning("%s", printable(told))
            continue
        first = signals[(signals.step == 0) & (signals.kind == "conv")].sort_values("depth")
        if not first.weight_gradient.between(0, math.inf, inclusive="neither").any():  # nothing for a log scale
            continue
        depth = pd.DataFrame({"epoch": range(1, len(first) + 1), "gradient": first.weight_gradient.to_numpy()})
        for name in ("folder", *factors):
            depth[name] = pd.Series([run[name]] * len(depth), dtype=object)
        found.append(depth)
    if not found:
        return None
    curves = pd.concat(found, ignore_index=True)
    return _curves(
        curves, factors, "gradient", "norm of the weight's gradient", "convolution, from input to output",
        finish=lambda axes: axes.set_yscale("log"),
    )  # fmt: skip


def _curves(
    curves: pd.DataFrame,
    factors: Sequence[str],
    metric: str,
    words: str,
    by: str = "epoch",
    finish: Callable[[Axes], None] | None = None,
) -> Figure:
    """One line per level of one factor, one panel per combination of the others."""
    counts = {factor: curves[factor].map(repr).nunique() for factor in factors}
    few = {factor: count for factor, count in counts.items() if count <= _MOST_LINES} or counts
    lines = [max(few, key=few.__getitem__)] if few else []
    others = [factor for factor in factors if factor not in lines]
    if math.prod(counts.values()) <= _MOST_LINES:
        lines, others = list(factors), []
    styles = {repr(levels): place for place, (levels, _) in enumerate(settings_of(curves, lines))}
    panels = list(settings_of(curves, others))[:_MOST_PANELS]
    across = min(3, len(panels))
    down = math.ceil(len(panels) / across)
    with rc_context(_LOOK):
        height = 3.6 if len(panels) == 1 else 0.5 + 2.1 * down
        figure, axes = _figure(8, height, nrows=down, ncols=across, sharex=True, sharey=True)
        for ax, (held, panel) in zip(axes.flat, panels, strict=False):
            if others:
                ax.set_title(label(held, others))
            for levels, group in settings_of(panel, lines):
                style = _line(styles[repr(levels)])
                by_epoch = group.groupby("epoch")[metric]
                low, mean, high = by_epoch.min(), by_epoch.mean(), by_epoch.max()
                ax.plot(mean, label=label(levels, lines), **style)
                name = label({**held, **levels}, [*others, *lines])
                figure.tips += [(ax, x, y, f"{name}: {y:.4g} at {by} {x:g}") for x, y in mean.items()][-_MOST_TIPS:]
                ax.fill_between(mean.index, low, high, color=style["color"], alpha=0.18, lw=0)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if finish:
                finish(ax)
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        figure.supxlabel(by, size=9)
        figure.supylabel(words, size=9)
        _legend(figure)
    return figure


def _legend(figure: Figure) -> None:
    """One legend above all panels, in as many columns as the longest name allows."""
    handles = {text: handle for ax in figure.axes for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    columns = min(4, len(handles), max(1, 120 // (8 + max(map(len, handles), default=0))))  # 120 letters a line
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=columns)
