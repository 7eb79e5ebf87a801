"""The sections of a page: the tables and figures behind its conclusion, each with its method below it."""

import math
from collections.abc import Callable, Sequence

import pandas as pd

from src.analysis import figures
from src.analysis.convergence import convergence
from src.analysis.effects import Rule, classes_of, scores_of
from src.analysis.figures import label, level_name
from src.analysis.page.cells import NONE, arrow, count_cell, level_cell, percent_cell, text_cell
from src.analysis.page.conclusion import accuracy_span, p_value, points, probability, span
from src.analysis.page.page import Cell, Drawing, Results, Section, Table
from src.analysis.statistics import Verdict
from src.runs.escaping import plural

_MEASURED = ["n", "difference, points", "95 % interval", "p", "p (Holm)", "p (equal)", "P (better)", "verdict"]


def _tests(rule: Rule) -> str:
    """The test of a comparison over seeds, in words."""
    if rule.at_every_look:
        return (
            "e-values of the paired t statistic, which hold at every look (Gönen et al. 2005, Wang and Ramdas 2024), "
            "two-sided, with the intervals that go with them"
        )
    return "two-sided paired t-tests over seeds (n - 1 degrees of freedom) and their intervals"


def _paired(rule: Rule) -> str:
    return (
        "Differences in test accuracy, in percentage points, within pairs of runs that differ in this factor alone and "
        f"have the same seed. Interval and p: {_tests(rule)}. p (equal): two one-sided tests of the same kind against "
        "the smallest effect that matters (TOST, Schuirmann 1987); none if no smallest_effect is set. Both are "
        "corrected for all tests of this table after Holm, the former also shown without. Verdict: equivalent or "
        "differs if that corrected p is below 0.05, else undecided; at chance if no arm exceeds guessing by more than "
        "luck (two standard deviations). An equivalent row has its 90 % interval: two one-sided tests at 5 % ask "
        "whether this one lies within the smallest effect. P (better): how often the change wins within a pair, a tie "
        "counting half (Bouthillier et al. 2021), with its 95 % interval (Clopper and Pearson, exact). g_av: Hedges' "
        "g_av, the difference in units of the standard deviation over seeds, corrected for small n (Lakens 2013)."
    )


def accuracy_section(runs: pd.DataFrame, table: pd.DataFrame, factors: Sequence[str], tuned: str | None) -> Section:
    """Every configuration: accuracy over seeds."""
    columns: _Columns = {
        "val/accuracy": ("validation, %", percent_cell),
        "train/loss": ("training loss", lambda value: Cell(f"{value:.4f}", value)),
    }
    if different := _different_losses(runs):
        del columns["train/loss"]
    known = _known(table, columns)
    verdicts = table.verdicts.map(len).any()
    rows = []
    for _, row in table.iterrows():
        cells = [level_cell(row[name]) for name in factors]
        if tuned:
            cells.append(level_cell(runs[runs.folder.isin(row.folders)][tuned].iloc[0]))
        cells += [count_cell(row.n), percent_cell(row["mean"]), percent_cell(row["std"]) if row.n > 1 else NONE]
        cells.append(Cell(accuracy_span(row.low, row.high), row.low) if row.n > 1 else _no_interval(1))
        rows.append([*cells, *_optional(row, known), *([text_cell(", ".join(row.verdicts))] if verdicts else [])])
    heads = [*factors, *([tuned] if tuned else []), "n", "test accuracy, %", "std", "95 % interval, %"]
    heads += [head for head, _ in known.values()] + (["verdict"] if verdicts else [])
    note = (
        "Mean, standard deviation and interval over n seeds; interval by Student's t with n - 1 degrees of freedom, "
        "cut at 0 and 100. "
        f"Test accuracy is that of the epoch of {_best(runs)}, or of the last one where nothing was validated; "
        f"everything else is averaged over seeds. {different}"
    )
    drawing = Drawing(
        "accuracy",
        figures.draw_accuracy(runs, factors, 1 / classes_of(runs)),
        "Test accuracy. A dot is a run, the bar its configuration's mean, the line the mean's 95 % interval (cut off "
        "where it leaves the figure).",
    )
    return Section("Accuracy of each configuration", [drawing, Table(heads, rows, note)])


def tuning_section(tried: pd.DataFrame, others: Sequence[str], tuned: str) -> Section:
    """The chosen levels of a tuned factor; ``tried`` is the result of ``src.analysis.effects.trials``."""
    score, rows = tried.attrs["score"], []
    for _, row in tried.iterrows():
        validation = percent_cell(row.validation) if score.is_share else Cell(f"{row.validation:.4f}", row.validation)
        levels = [*(level_cell(row[name]) for name in others), level_cell(row[tuned])]
        scores = [count_cell(row.n), validation, percent_cell(row.test)]
        rows.append([*levels, *scores, text_cell("chosen" if row.chosen else "")])
    caption = f"Mean {score.words} by {tuned}; the chosen one is ringed."
    note = (
        f"For {'each combination of the other factors' if others else 'all runs'}, {tuned} is chosen by the "
        f"{score.best} mean {score.words} over seeds, among the levels that completed most seeds; test accuracy has no "
        "say. All else on this page is about the runs at the chosen levels."
    )
    drawing = Drawing("tuning", figures.draw_tuning(tried, others, tuned), caption)
    measured = "validation, %" if score.is_share else score.words
    table = Table([*others, tuned, "n", measured, "test, %", "choice"], rows, note)
    return Section(f"The best {tuned} for each", [drawing, table])


def overview(effects: pd.DataFrame, smallest_effect: float | None) -> Drawing | None:
    """All comparisons of a family in one figure."""
    figure = figures.draw_effects(effects, smallest_effect)
    if figure is None:
        return None
    caption = (
        "Difference in accuracy, 95 % interval (uncorrected). Orange differs, green is equivalent, grey undecided or "
        "at chance. A green line is the 90 % interval, which two one-sided tests at 5 % compare with the green band."
    )
    if smallest_effect:
        caption += f" Within that band, ±{plural(100 * smallest_effect, 'point')}, a difference does not matter."
    return Drawing("effects", figure, caption)


def primary_section(effects: pd.DataFrame, factors: Sequence[str], rule: Rule) -> Section:
    """The comparison that answers the question, see ``primary_effects`` in ``src.analysis.effects``."""
    return Section("The primary comparison", [_effects_table(effects, factors, rule)])


def effects_section(
    effects: pd.DataFrame,
    crossed: pd.DataFrame,
    mixed: pd.DataFrame,
    factors: Sequence[str],
    rule: Rule,
    *,
    exploratory: bool,
) -> Section:
    """Main effects and interactions, see ``src.analysis.effects``, and ``mixed_effects``.

    Args:
        rule: what they were decided by.
        exploratory: whether something else was to be found out.
    """
    parts: list[str | Table | Drawing] = [_effects_table(effects, factors, rule)]
    if len(mixed):
        parts.append(_mixed_table(mixed))
    if len(crossed):
        parts.append(_interactions_table(crossed))
    return Section("Exploratory: what each factor is worth" if exploratory else "What each factor is worth", parts)


def _effects_table(effects: pd.DataFrame, factors: Sequence[str], rule: Rule) -> Table:
    several = len(factors) > 1
    rows = []
    for _, effect in effects.iterrows():
        part = f" of {effect.possible}" if effect.averaged < effect.possible else ""
        settings = [Cell(f"{effect.averaged}{part}", effect.averaged)] if several else []
        rows.append([text_cell(effect.factor), _change(effect), *settings, *_measured(effect), _effect_size(effect)])
    columns = ["factor", "change", *(["settings"] if several else []), *_MEASURED, "g_av"]
    averaged = (
        " Differences are averaged over the settings of the other factors within each seed first, so that n is the "
        "number of seeds, not of pairs; a seed counts only if it has all those settings."
    )
    return Table(columns, rows, _paired(rule) + averaged * several)


def _mixed_table(effects: pd.DataFrame) -> Table:
    rows = [
        [text_cell(effect.factor), _change(effect), count_cell(effect.averaged), *_measured(effect, paired=False)]
        for _, effect in effects.iterrows()
    ]
    note = (
        "Some seeds lack some settings. The paired tests above leave such seeds out; this table uses all n runs: a "
        "linear mixed model by REML (statsmodels' MixedLM), a fixed effect for each configuration, a random intercept "
        "for each seed. Interval and tests by Student's t with n - configurations - seeds + 1 degrees of freedom. It "
        "assumes the same spread in all configurations, and that runs are not missing because of their result."
    )
    columns = [name for name in _MEASURED if name != "P (better)"]
    return Table(["factor", "change", "settings", *columns], rows, note)


def _interactions_table(crossed: pd.DataFrame) -> Table:
    rows = [
        [
            *(text_cell(effect["first"]), text_cell(arrow(effect.first_change))),
            *(text_cell(effect.second), text_cell(arrow(effect.second_change))),
            *_measured(effect),
        ]
        for _, effect in crossed.iterrows()
    ]
    note = (
        "Interactions: by how many points the first factor's effect grows when the second one changes, averaged "
        "over all settings of the rest within each seed. Tests of these differences over n seeds, as above; Holm over "
        "this table."
    )
    return Table(["effect of", "change", "while", "goes", *_MEASURED], rows, note)


def simple_section(effects: pd.DataFrame, rule: Rule) -> Section:
    """Simple effects, see ``src.analysis.effects.simple_effects``."""
    rows = []
    for _, effect in effects.iterrows():
        held = text_cell(label(effect.held, list(effect.held)))
        rows.append([text_cell(effect.factor), _change(effect), held, *_measured(effect), _effect_size(effect)])
    table = Table(["factor", "change", "held fixed", *_MEASURED, "g_av"], rows, _paired(rule))
    return Section("One factor changed, the others held fixed", [table], folded=len(rows) > 12)


def learning_section(runs: pd.DataFrame, factors: Sequence[str], targets: Sequence[float]) -> Section:
    """Learning curves, and time to given validation accuracies."""
    caption = "The mean over seeds; the band reaches from the lowest to the highest seed."
    parts: list[str | Table | Drawing] = [Drawing("learning", figures.draw_learning(runs, factors), caption)]
    table = convergence(runs, factors, targets)
    if table.empty:
        parts.append("Nothing was validated (data.val_size=0), so there is no telling when an accuracy was reached.")
        return Section("How fast they learn", parts)
    rows = []
    for _, row in table.iterrows():
        cells = [*(level_cell(row[name]) for name in factors), percent_cell(row.area)]
        cells.append(NONE if row.target is None else Cell(f"{row.target:.0%}", row.target))
        cells.append(Cell(f"{row.reached} of {row.n}", row.reached))
        for name in ("epochs", "steps", "seconds"):
            cells.append(NONE if math.isnan(row[name]) else Cell(f"{row[name]:,.1f}", row[name]))
        rows.append(cells)
    note = (
        "Until the end of the first epoch with at least that validation accuracy, on average over seeds; no average "
        "where a seed never got there, since it would favour those of which only the fast seeds did. Nothing is listed "
        "beyond the first target that none of its seeds reached. Area: under validation accuracy by epoch (trapezoidal "
        "rule), divided by the epochs it spans; who learns faster has more of it. Seconds depend on the machine and on "
        "what else it was doing."
    )
    columns = [*factors, "area, %", "target", "reached", "epochs", "steps", "seconds"]
    return Section("How fast they learn", [*parts, Table(columns, rows, note)])


def cost_section(runs: pd.DataFrame, table: pd.DataFrame, factors: Sequence[str]) -> Section:
    """Accuracy against seconds and FLOPs; ``table`` is the result of ``configurations``."""
    caption = (
        "Mean test accuracy against cost. Seconds depend on the machine and on what else it did: their line spans the "
        "runs from the fastest to the slowest. Operations do not: through them goes the Pareto front; whatever is off "
        "it is beaten in both by something on it, as far as means can tell."
    )
    columns: _Columns = {
        "parameters": ("parameters", lambda value: Cell(f"{value:,.0f}", value)),
        "flops_per_image": ("MFLOP/image", lambda value: Cell(f"{value / 1e6:,.1f}", value)),
        "seconds": ("seconds", lambda value: Cell(f"{value:,.1f}", value)),
        "images_per_second": ("images/s", lambda value: Cell(f"{value:,.0f}", value)),
    }
    known = _known(table, columns)
    rows = [
        [*(level_cell(row[name]) for name in factors), percent_cell(row["mean"]), *_optional(row, known)]
        for _, row in table.iterrows()
    ]
    note = (
        "Averages over seeds. MFLOP: forward pass of one image, twice the multiply-adds; seconds: training and "
        "validation."
    )
    heads = [*factors, "test accuracy, %", *(head for head, _ in known.values())]
    drawing = Drawing("cost", figures.draw_cost(runs, factors), caption)
    return Section("Accuracy against cost", [drawing, Table(heads, rows, note)])


def grid_sections(runs: pd.DataFrame, factors: Sequence[str]) -> list[Section]:
    """Heatmaps of the grid and of the classes, if they can be drawn."""
    drawn = []
    if grid := figures.draw_heatmap(runs, factors):
        drawn.append(Section("The grid", [Drawing("grid", grid, "Mean test accuracy over seeds, %.")]))
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
    said = [name for name in ("tags", "notes") if everything[name].any()]
    common = set.intersection(*(set(job.split(", ")) for job in everything["job"]))
    rows = []
    for _, job in everything.sort_values("status", key=lambda status: status == "completed", kind="stable").iterrows():
        name = ", ".join(override for override in job["job"].split(", ") if override not in common)
        accuracy = job.get("test/accuracy", math.nan)
        score = NONE if math.isnan(accuracy) else percent_cell(accuracy)
        texts = map(text_cell, (*(job[name] for name in said), job.error or ""))
        rows.append([text_cell(job.sweep), text_cell(name), text_cell(job.status), score, *texts])
    table = Table(["sweep", "job", "status", "test accuracy, %", *said, "what stopped it"], rows)
    finish = [f"To finish: {command}" for command in commands]
    return Section("Jobs", [table, *finish], folded=bool((everything.status == "completed").all()))


def reading_section() -> Section:
    """What the statistics can and cannot say."""
    return Section(
        "How to read this",
        [
            "Everything here is over seeds: initial weights, order of the images, augmentation. An interval says "
            "where the mean over many seeds may lie, with these training and test images; it does not speak of others.",
            "With few seeds t-intervals are wide, and rightly so; they assume that accuracies scatter about normally "
            "over seeds. “Undecided” is not “equal”: the interval says which differences remain possible. “Equivalent” "
            "is: with 95 % confidence the difference is smaller than the smallest effect that matters; its 90 % "
            "interval, 5 % on either side, lies within that effect. “At chance” says nothing of a factor: no arm "
            "learned.",
            "What was not asked before the runs is exploratory: of many tables, some show what no other sweep will.",
            "Each table of tests is one family for Holm's correction, which keeps the chance of any false alarm in it "
            "below 5 %. The baseline of a factor is its level asked for first, unless the setting baseline says "
            "otherwise.",
        ],
        folded=True,
    )


def results(
    table: pd.DataFrame, against_best: pd.DataFrame, factors: Sequence[str], rule: Rule, methods: str
) -> Results:
    """The table of a paper; ``table`` and ``against_best`` are those of ``conclusion``."""
    rows = []
    for _, row in table.iterrows():
        score = f"{100 * row['mean']:.2f}" + (f" ± {100 * row['std']:.2f}" if row.n > 1 else "")
        rows.append([*(level_name(row[name]) for name in factors), score, str(row.n)])
    worse = against_best[against_best.verdict == Verdict.DIFFERS] if len(against_best) else against_best
    beaten = {repr([row[name] for name in factors]) for _, row in worse.iterrows()}
    best = [repr([row[name] for name in factors]) not in beaten for _, row in table.iterrows()]
    caption = (
        "Test accuracy, mean ± standard deviation over n seeds. Bold: the highest mean, and all that were not found to "
        f"differ from it at 5 %, corrected after Holm ({_tests(rule)})."
    )
    return Results(list(factors), rows, best, caption, methods)


def methods(
    runs: pd.DataFrame,
    table: pd.DataFrame,
    factors: Sequence[str],
    tuned: str | None,
    smallest_effect: float | None,
    rule: Rule,
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
    text.append(
        "Configurations were compared on the test images in pairs of equal seed, averaged over the settings of the "
        f"other factors within each seed: {_tests(rule)}, p-values corrected after Holm."
    )
    if smallest_effect:
        text.append(
            f"A difference was called equivalent to none if two one-sided tests (TOST, 5 %, after Holm) excluded "
            f"{plural(100 * smallest_effect, 'point')} or more."
        )
    text.append(f"Software: {', '.join(sorted(versions)) or 'unknown'}; code at {_commits(runs)}.")
    return " ".join([*text, *(f"Command: {command}" for command in launched)])


def _commits(runs: pd.DataFrame) -> str:
    return ", ".join(dict.fromkeys(str(commit or "unknown")[:10] for commit in runs.get("commit", ()))) or "unknown"


# ---- Cells ---------------------------------------------------------------------------------------------------


_Columns = dict[str, tuple[str, Callable[[float], Cell]]]  # by column: its header, and a value's formatter


def _known(table: pd.DataFrame, columns: _Columns) -> _Columns:
    """The columns that contain a value."""
    return {name: column for name, column in columns.items() if name in table and table[name].notna().any()}


def _optional(row: pd.Series, columns: _Columns) -> list[Cell]:
    return [NONE if math.isnan(row[name]) else show(row[name]) for name, (_, show) in columns.items()]


def _different_losses(runs: pd.DataFrame) -> str:
    """A sentence, if the training losses of the runs cannot be compared."""
    keys = [[key for key in settings if key.split(".")[0] in ("loss", "label_smoothing")] for settings in runs.settings]
    losses = {repr([(key, run[key]) for key in sorted(names)]) for run, names in zip(runs.settings, keys, strict=True)}
    return "Training losses are not shown: runs were trained with different ones." if len(losses) > 1 else ""


def _measured(effect: pd.Series, *, paired: bool = True) -> list[Cell]:
    if effect.n == 0:
        return [
            count_cell(0),
            NONE,
            Cell("no seed has all settings", -math.inf),
            *[NONE] * 4,
            text_cell(effect.verdict),
        ]
    width = " (90 %)" if effect.verdict == Verdict.EQUIVALENT else ""
    interval = Cell(span(effect.low, effect.high) + width, effect.low) if effect.n > 1 else _no_interval(effect.n)
    ps = (effect.p, effect.p_holm, effect.p_equivalence_holm)
    tests = [NONE if pd.isna(p) else Cell(p_value(p).removeprefix("= "), p) for p in ps]
    decided = [*([Cell(probability(effect), effect.wins)] if paired else []), text_cell(str(effect.verdict))]
    return [count_cell(effect.n), Cell(points(effect.difference), effect.difference), interval, *tests, *decided]


def _effect_size(effect: pd.Series) -> Cell:
    return NONE if pd.isna(effect.g_av) else Cell(f"{effect.g_av:+.1f}", effect.g_av)


def _no_interval(n: int) -> Cell:
    return Cell(f"n = {n}: no interval", -math.inf)


def _change(effect: pd.Series) -> Cell:
    return text_cell(arrow((effect.baseline, effect.level)))


def _best(runs: pd.DataFrame, of: str = "") -> str:
    """What the best epoch was chosen by, in words."""
    return " or ".join(f"{score.best} {of}{score.words}" for score in scores_of(runs))
