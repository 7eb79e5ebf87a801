"""The sections of a page: the tables and figures behind its conclusion, each with its method below it."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd

from src.analysis import figures
from src.analysis.convergence import convergence
from src.analysis.effects import classes_of, scores_of
from src.analysis.figures import label, level_name
from src.analysis.page.cells import (
    NONE,
    Column,
    arrow,
    column,
    level_cell,
    level_columns,
    note,
    percent_cell,
    table_of,
    text_cell,
)
from src.analysis.page.conclusion import accuracy_span, p_value, points, probability, span
from src.analysis.page.page import Cell, Drawing, Results, Section, Table
from src.analysis.statistics import Verdict
from src.analysis.table import SCORE, WORDS, judged_by, revisions
from src.runs.escaping import plural


def _tests(at_every_look: bool) -> str:
    """The test of a comparison over seeds, in words."""
    return note("e_values" if at_every_look else "t_tests")


def accuracy_section(runs: pd.DataFrame, table: pd.DataFrame, factors: Sequence[str], tuned: str | None) -> Section:
    """Every configuration: accuracy over seeds."""
    columns = [
        *level_columns(factors),
        *([(tuned, lambda row: level_cell(runs[runs.folder.isin(row.folders)][tuned].iloc[0]))] if tuned else []),
        column("n", "n", "{}"),
        column(f"{WORDS[judged_by(runs)]}, %", "mean", percent_cell),
        column("std", "std", percent_cell),
        ("95 % interval, %", _interval(lambda row: accuracy_span(row.low, row.high))),
        column("validation, %", "val/accuracy", percent_cell),
        *([] if (different := _different_losses(runs)) else [column("training loss", "train/loss", "{:.4f}")]),
        ("verdict", lambda row: text_cell(", ".join(row.verdicts)) if row.verdicts else NONE),
    ]
    chance = 1 / classes if (classes := classes_of(runs)) else 0
    drawing = Drawing("accuracy", figures.draw_accuracy(table, factors, chance), note("accuracy_figure"))
    text = note("accuracy", accuracy=WORDS[judged_by(runs)].capitalize(), best=_best(runs), losses=different)
    return Section("Accuracy of each configuration", [drawing, table_of(table, columns, text)])


def tuning_section(tried: pd.DataFrame, others: Sequence[str], tuned: str) -> Section:
    """The chosen levels of a tuned factor; ``tried`` is the result of ``src.analysis.effects.trials``."""
    score = tried.attrs["score"]
    head, cell = ("validation, %", percent_cell) if score.is_share else (score.words, "{:.4f}")
    columns = [
        *level_columns([*others, tuned]),
        column("n", "n", "{}"),
        column(head, "validation", cell),
        column("test, %", "test", percent_cell),
        ("choice", lambda row: text_cell("chosen" if row.chosen else "")),
    ]
    caption = f"Mean {score.words} by {tuned}; the chosen one is ringed."
    everyone = "each combination of the other factors" if others else "all runs"
    text = note("tuning", all=everyone, tuned=tuned, best=score.best, score=score.words)
    drawing = Drawing("tuning", figures.draw_tuning(tried, others, tuned), caption)
    return Section(f"The best {tuned} for each", [drawing, table_of(tried, columns, text)])


def overview(effects: pd.DataFrame, smallest_effect: float | None) -> Drawing | None:
    """All comparisons of a family in one figure."""
    figure = figures.draw_effects(effects, smallest_effect)
    if figure is None:
        return None
    caption = note("overview")
    if smallest_effect:
        caption += " " + note("band", effect=plural(100 * smallest_effect, "point"))
    return Drawing("effects", figure, caption)


def primary_section(effects: pd.DataFrame, factors: Sequence[str], at_every_look: bool) -> Section:
    """The comparison that answers the question, see ``primary_effects`` in ``src.analysis.effects``."""
    return Section("The primary comparison", [_effects_table(effects, factors, at_every_look)])


def effects_section(
    effects: pd.DataFrame,
    crossed: pd.DataFrame,
    mixed: pd.DataFrame,
    factors: Sequence[str],
    at_every_look: bool,
    *,
    exploratory: bool,
) -> Section:
    """Main effects and interactions, see ``src.analysis.effects``, and ``mixed_effects``.

    Args:
        at_every_look: see ``Grid`` in ``src.analysis.effects``.
        exploratory: whether something else was to be found out.
    """
    parts: list[str | Table | Drawing] = [_effects_table(effects, factors, at_every_look)] if len(effects) else []
    if len(mixed):
        columns = [*_CHANGE, column("settings", "averaged", "{}"), *_MEASURED]
        parts.append(table_of(mixed, columns, note("mixed")))
    if len(crossed):
        pairs: list[Column] = [
            ("effect of", lambda effect: text_cell(effect["first"])),
            ("change", lambda effect: text_cell(arrow(effect.first_change))),
            ("while", lambda effect: text_cell(effect.second)),
            ("goes", lambda effect: text_cell(arrow(effect.second_change))),
        ]
        parts.append(table_of(crossed, [*pairs, *_MEASURED], note("interactions")))
    return Section("Exploratory: what each factor is worth" if exploratory else "What each factor is worth", parts)


def _effects_table(effects: pd.DataFrame, factors: Sequence[str], at_every_look: bool) -> Table:
    several = len(factors) > 1

    def settings(effect: pd.Series) -> Cell:
        part = f" of {effect.possible}" if effect.averaged < effect.possible else ""
        return Cell(f"{effect.averaged}{part}", effect.averaged)

    columns = [*_CHANGE, *([("settings", settings)] if several else []), *_MEASURED, _EFFECT_SIZE]
    return table_of(effects, columns, note("paired", tests=_tests(at_every_look)) + f" {note('averaged')}" * several)


def simple_section(effects: pd.DataFrame, at_every_look: bool) -> Section:
    """Simple effects, see ``src.analysis.effects.simple_effects``."""
    held = ("held fixed", lambda effect: text_cell(label(effect.held, list(effect.held))))
    table = table_of(effects, [*_CHANGE, held, *_MEASURED, _EFFECT_SIZE], note("paired", tests=_tests(at_every_look)))
    return Section("One factor changed, the others held fixed", [table], folded=len(effects) > 12)


def learning_section(runs: pd.DataFrame, factors: Sequence[str], targets: Sequence[float]) -> Section:
    """Learning curves, and time to given validation accuracies."""
    caption = "The mean over seeds; the band reaches from the lowest to the highest seed."
    parts: list[str | Table | Drawing] = [Drawing("learning", figures.draw_learning(runs, factors), caption)]
    table = convergence(runs, factors, targets)
    if table.empty:
        parts.append("Nothing was validated (data.val_size=0), so there is no telling when an accuracy was reached.")
        return Section("How fast they learn", parts)
    columns: list[Column] = [
        *level_columns(factors),
        column("validation accuracy, mean over epochs, %", "area", percent_cell),
        *((f"epochs (and seconds) to {target:.0%}", partial(_time, target)) for target in table.reached.iloc[0]),
    ]
    return Section("How fast they learn", [*parts, table_of(table, columns, note("learning"))])


def _time(target: float, row: pd.Series) -> Cell:
    if target not in row.times:
        reached = row.reached[target]
        return Cell(f"{reached} of {plural(row.n, 'seed')}", -math.inf) if reached else NONE
    return Cell(f"{row.times[target].epoch:.1f} ({row.times[target].seconds:,.1f} s)", row.times[target].epoch)


def cost_section(runs: pd.DataFrame, table: pd.DataFrame, factors: Sequence[str]) -> Section:
    """Accuracy against seconds and FLOPs; ``table`` is the result of ``configurations``."""
    columns = [
        *level_columns(factors),
        column(f"{WORDS[judged_by(runs)]}, %", "mean", percent_cell),
        column("parameters", "parameters", "{:,.0f}"),
        column("MFLOP/image", "flops_per_image", lambda count: Cell(f"{count / 1e6:,.1f}", count)),
        column("seconds", "seconds", "{:,.1f}"),
        column("images/s", "images_per_second", "{:,.0f}"),
    ]
    figure = figures.draw_cost(table, factors)
    caption = note("cost_figure") + f" {note('cost_front')}" * (len(figure.axes) > 1)
    drawing = Drawing("cost", figure, caption)
    return Section("Accuracy against cost", [drawing, table_of(table, columns, note("cost"))])


def grid_sections(runs: pd.DataFrame, factors: Sequence[str]) -> list[Section]:
    """Heatmaps of the grid and of the classes, if they can be drawn."""
    drawn = []
    if grid := figures.draw_heatmap(runs, factors):
        drawn.append(Section("The grid", [Drawing("grid", grid, f"Mean {WORDS[judged_by(runs)]} over seeds, %.")]))
    if classes := figures.draw_classes(runs, factors):
        caption = "Test accuracy by class, %, mean over seeds; of more than 20 classes, the hardest."
        drawn.append(Section("By class", [Drawing("classes", classes, caption)]))
    return drawn


def loss_section(runs: pd.DataFrame, factors: Sequence[str]) -> Section:
    """Training loss, if it is the same in all runs, and, if signals were recorded, gradients by depth."""
    caption = "Training loss; the mean over seeds, with a band from the lowest to the highest."
    parts: list[str | Table | Drawing] = [_different_losses(runs)]
    if parts == [""]:
        parts = [Drawing("loss", figures.draw_loss(runs, factors, classes_of(runs)), caption)]
    if gradients := figures.draw_gradients(runs, factors):
        parts.append(Drawing("gradients", gradients, "Gradient of the weights by depth, before the first update."))
    return Section("Training loss" + (" and signal" if len(parts) > 1 else ""), parts)


def jobs_section(everything: pd.DataFrame, commands: Sequence[str]) -> Section:
    """Every job with its status, tags and notes, unfinished ones first; and the commands that finish the sweep."""
    common = set.intersection(*(set(job.split(", ")) for job in everything["job"]))
    unfinished_first = everything.sort_values("status", key=lambda status: status == "completed", kind="stable")
    columns = [
        column("sweep", "sweep", text_cell),
        ("job", lambda job: text_cell(", ".join(part for part in job["job"].split(", ") if part not in common))),
        column("status", "status", text_cell),
        column("test accuracy, %", SCORE, percent_cell),
        *(column(name, name, text_cell) for name in ("tags", "notes", "error")),
    ]
    table = table_of(unfinished_first, columns)
    finish = [f"To finish: {command}" for command in commands]
    done = bool((everything.status == "completed").all())
    return Section("Jobs", [table, *_against_plan(everything), *finish], folded=done)


def _against_plan(everything: pd.DataFrame) -> list[str]:
    """A sentence on what ``plan=true`` expected, if it was asked."""
    done = everything[everything.status == "completed"].dropna(subset=["planned", "seconds"])
    expected, took = done.planned.sum(), done.seconds.sum()
    if expected < 0.01:  # none, or nothing to compare with
        return []
    return [
        f"plan=true expected {expected:,.1f} s of training for {plural(len(done), 'completed job')}; they took "
        f"{took:,.1f} s ({took / expected - 1:+.0%})."
    ]


def settings_section(runs: pd.DataFrame) -> Section:
    """The settings that are the same in all runs, and how many values the others have."""
    values: dict[str, dict[str, None]] = {}
    for settings in runs.settings:
        for key, value in settings.items():
            values.setdefault(key, {})[level_name(value)] = None
    known = runs.settings.map(len) > 0
    rows = [
        [text_cell(key), text_cell(*found) if len(found) == 1 else text_cell(f"{len(found)} values")]
        for key, found in values.items()
        if len(found) > 1 or sum(key in settings for settings in runs.settings) == known.sum()
    ]
    return Section("Settings of all runs", [Table(["setting", "value"], rows)], folded=True)


def reading_section() -> Section:
    """What the statistics can and cannot say."""
    topics = ("seeds", "verdicts", "exploratory", "families")
    return Section("How to read this", [note(f"reading_{topic}") for topic in topics], folded=True)


def results(
    table: pd.DataFrame, against_best: pd.DataFrame, factors: Sequence[str], at_every_look: bool, methods: str
) -> Results:
    """The table of a paper; ``table`` and ``against_best`` are those of ``conclusion``."""
    rows = []
    for _, row in table.iterrows():
        score = f"{100 * row['mean']:.2f}" + (f" ± {100 * row['std']:.2f}" if row.n > 1 else "")
        rows.append([*(level_name(row[name]) for name in factors), score, str(row.n)])
    worse = against_best[against_best.verdict == Verdict.DIFFERS] if len(against_best) else against_best
    beaten = {repr([row[name] for name in factors]) for _, row in worse.iterrows()}
    best = [repr([row[name] for name in factors]) not in beaten for _, row in table.iterrows()]
    caption = note("paper", accuracy=WORDS[table.attrs["metric"]].capitalize(), tests=_tests(at_every_look))
    return Results(list(factors), rows, best, caption, methods)


def methods(
    runs: pd.DataFrame,
    table: pd.DataFrame,
    factors: Sequence[str],
    tuned: str | None,
    smallest_effect: float | None,
    at_every_look: bool,
    scale: str,
    launched: Sequence[str],
) -> str:
    """A paragraph on how the runs were made and compared, with versions and the command."""
    counts = sorted(set(table.n))
    seeds = f"{counts[0]} to " * (len(counts) > 1) + plural(int(counts[-1]), "seed")
    versions = {f"{name} {number}" for made_with in runs.versions.dropna() for name, number in made_with.items()}
    text = [
        f"{plural(len(table), 'configuration')} ({', '.join(factors) or 'nothing'} varied), {seeds} each, "
        f"{plural(len(runs), 'run')} in all ({scale})."
    ]
    if tuned:
        text.append(f"{tuned} was chosen for each configuration by the {_best(runs, 'mean ')} over seeds.")
    text.append(note("compared", images=WORDS[judged_by(runs)].split()[0], tests=_tests(at_every_look)))
    if smallest_effect:
        text.append(note("equivalent", effect=plural(100 * smallest_effect, "point")))
    code = ", ".join(dict.fromkeys(revisions(runs))) or "unknown"
    text.append(f"Software: {', '.join(sorted(versions)) or 'unknown'}; code at {code}.")
    return " ".join([*text, *(f"Command: {command}" for command in launched)])


# ---- Cells ---------------------------------------------------------------------------------------------------


def _interval(span: Callable[[Any], str]) -> Callable[[Any], Cell]:
    """The cell of an interval, if there is one."""

    def cell(row: pd.Series) -> Cell:
        if row.n < 2:
            return Cell(f"n = {row.n}: no interval" if row.n else "no seed has all settings", -math.inf)
        return Cell(span(row), row.low)

    return cell


def _effect_span(effect: pd.Series) -> str:
    return span(effect.low, effect.high) + (" (90 %)" if effect.verdict == Verdict.EQUIVALENT else "")


def _p_cell(p: float) -> Cell:
    return Cell(p_value(p).removeprefix("= "), p)


_CHANGE = [
    column("factor", "factor", text_cell),
    ("change", lambda effect: text_cell(arrow((effect.baseline, effect.level)))),
]
_MEASURED = [
    column("n", "n", "{}"),
    column("difference, points", "difference", lambda difference: Cell(points(difference), difference)),
    ("95 % interval", _interval(_effect_span)),
    column("p", "p", _p_cell),
    column("p (Holm)", "p_holm", _p_cell),
    column("p (equal)", "p_equivalence_holm", _p_cell),
    ("P (better)", lambda effect: Cell(probability(effect), effect.wins) if effect.get("wins", -1) >= 0 else NONE),
    ("verdict", lambda effect: text_cell(str(effect.verdict))),
]
_EFFECT_SIZE = column("g_av", "g_av", "{:+.1f}")


def _different_losses(runs: pd.DataFrame) -> str:
    """A sentence, if the training losses of the runs cannot be compared."""
    keys = [[key for key in settings if key.split(".")[0] in ("loss", "label_smoothing")] for settings in runs.settings]
    losses = {repr([(key, run[key]) for key in sorted(names)]) for run, names in zip(runs.settings, keys, strict=True)}
    return "Training losses are not shown: runs were trained with different ones." if len(losses) > 1 else ""


def _best(runs: pd.DataFrame, of: str = "") -> str:
    """What the best epoch was chosen by, in words."""
    return " or ".join(f"{score.best} {of}{score.words}" for score in scores_of(runs))
