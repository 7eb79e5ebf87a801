"""Build the report page of a sweep from its runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from src.analysis.caveats import asked_of, at_grid_edge, caveats
from src.analysis.design import design_section, recipe
from src.analysis.effects import (
    at_every_look,
    chosen_runs,
    compare_with_best,
    configurations,
    grid,
    interactions,
    main_effects,
    primary_effects,
    simple_effects,
    trials,
    without_repetitions,
)
from src.analysis.mixed import mixed_effects
from src.analysis.page import sections
from src.analysis.page.conclusion import compared, conclusion
from src.analysis.page.page import Page, Section
from src.analysis.page.test_set import Images, test_set_sections
from src.analysis.table import varying_factors
from src.analysis.variation import as_repetitions, shares, variation_section
from src.runs.escaping import printable


def page_of(
    title: str,
    everything: pd.DataFrame,
    *,
    tune: str | Sequence[str] = "auto",
    targets: Sequence[float] = (),
    baselines: Mapping[str, Any] | None = None,
    commands: Sequence[str] = (),
    launched: Sequence[str] = (),
    smallest_effect: float | None = None,
    images: Images | None = None,
) -> Page:
    """Build the page.

    Args:
        title: the sweep's name.
        everything: all jobs, see ``load_runs``; at least one has completed.
        tune: a factor that is not compared but tuned, for each combination of the others, by the runs' score: its
            name, an empty list for none, or ``auto``, which tunes the learning rate if the optimiser varies too.
        targets: validation accuracies, 0 to 1, for the table of convergence.
        baselines: by factor, the level to compare with; by default the first that was requested.
        commands: commands that finish the sweep, if it is incomplete.
        launched: commands that made it.
        smallest_effect: differences of accuracy below it do not matter, 0 to 1; None for what the runs stated.
        images: of a run's test set, to draw those that changed most often; None draws none.

    Raises:
        ValueError: ``tune`` or a baseline names something that does not exist, or there is no score to tune by.
    """
    experiments = without_repetitions(everything[everything.status == "completed"])
    alone, spread = variation_section(shares(experiments))
    completed = as_repetitions(experiments)
    factors = varying_factors(completed)
    asked, doubts = asked_of(experiments, smallest_effect)
    smallest_effect = asked.smallest_effect
    warnings = [*doubts, *caveats(everything, completed, factors)]
    tuned = _tuned(tune, factors)
    runs, tuning = completed, []
    if tuned is not None:
        try:
            tried = trials(completed, factors, tuned)
        except ValueError as error:
            if tune != "auto":
                raise
            warnings.append(f"{error} Here it is compared like any other factor.")
            tuned = None
        else:
            runs = chosen_runs(completed, tried, factors)
            factors = [factor for factor in factors if factor != tuned]
            tuning = [sections.tuning_section(tried, factors, tuned)]
            warnings += at_grid_edge(tried, factors, tuned)
    table = configurations(runs, factors)
    center = recipe(table, factors)
    if center is not None:
        baselines = center[factors].to_dict() | dict(baselines or {})
    cells = grid(runs, factors, baselines)
    if cells.left_out:
        names = ", ".join(printable(folder.name) for folder in cells.left_out)
        warnings.append(f"No effect is computed from {names}: another run has the same factors and seed.")
    primary = pd.DataFrame()
    if asked.factor:
        try:
            primary = primary_effects(runs, factors, asked, baselines)
        except ValueError as error:
            warnings.insert(0, f"The primary comparison cannot be made: {error}")
    effects, crossed = main_effects(cells, smallest_effect), interactions(cells, smallest_effect)
    if runs.until.any() and len(primary):
        primary = at_every_look(primary, smallest_effect)
    elif runs.until.any():
        effects = at_every_look(effects, smallest_effect)
    against_best = compare_with_best(runs, factors, smallest_effect)
    for part in (effects, primary) if center is not None else ():
        part["possible"] = part.get("averaged")  # the rest of the grid was not asked for
    classes = max(len(runs.classes.iloc[0] or []), 2)
    worth = []
    if factors:
        worth = [
            sections.effects_section(
                effects, crossed, mixed_effects(cells, smallest_effect), factors, exploratory=len(primary) > 0
            )
        ]
    worth += [sections.simple_section(simple_effects(cells, smallest_effect))] if len(factors) > 1 else []
    if center is not None:
        worth = [design_section(worth[-1], center, factors)]
    methods = sections.methods(runs, table, factors, tuned, smallest_effect, _scale(experiments), launched)
    return Page(
        title,
        _scale(experiments),
        asked.text,
        compared(primary, factors, tuned, smallest_effect, asked.metric),
        [*conclusion(table, against_best, effects, crossed, factors, tuned, smallest_effect), *alone],
        warnings,
        sections.results(table, against_best, factors, methods),
        sections.overview(primary if len(primary) else effects, smallest_effect),
        [
            *([sections.primary_section(primary, factors)] if len(primary) else []),
            sections.accuracy_section(runs, table, factors, classes, tuned),
            *tuning,
            *worth,
            *spread,
            *test_set_sections(runs, cells, factors, images),
            sections.learning_section(runs, factors, targets),
            sections.cost_section(runs, table, factors),
            *sections.grid_sections(runs, factors),
            sections.loss_section(runs, factors, classes),
            sections.jobs_section(everything, commands),
            sections.reading_section(),
            Section("Methods, for a paper", [methods], folded=True),
        ],
    )


def _tuned(tune: str | Sequence[str], factors: Sequence[str]) -> str | None:
    """The tuned factor, if any."""
    if tune == "auto":
        return "lr" if {"lr", "optim"} <= set(factors) else None
    names = [tune] if isinstance(tune, str) else list(tune)
    if len(names) > 1 or not set(names) <= set(factors):
        raise ValueError(
            f"tune is {', '.join(names)}; expected auto, [] for none, or one of the factors that vary: "
            f"{', '.join(factors) or 'there are none'}."
        )
    return names[0] if names else None


def _scale(runs: pd.DataFrame) -> str:
    """The size of the experiment, in one line."""

    def spell(key: str, everything: str) -> str:
        values = {str(settings.get(key)): settings.get(key) for settings in runs.settings}
        spelled = (f"{value:,g}" if isinstance(value, int | float) else printable(value) for value in values.values())
        return ", ".join(everything if text == "None" else text for text in sorted(spelled))

    data = ", ".join(sorted({choices["data"] for choices in runs.choices if "data" in choices}))
    seeds, epochs = sorted(set(runs.seed)), spell("trainer.max_epochs", "?")
    parts = [
        data,
        f"{spell('data.train_size', 'all')} training images",
        f"{epochs} epoch{'' if epochs == '1' else 's'}",
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
        ", ".join(sorted(set(runs.device.dropna()))),
    ]
    return "; ".join(part for part in parts if part)
