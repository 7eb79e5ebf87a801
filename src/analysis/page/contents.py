"""Build the report page of a sweep from its runs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from src.analysis.caveats import asked_of, at_grid_edge, barely_above_chance, caveats, unequally_tuned
from src.analysis.design import design_section, recipe
from src.analysis.effects import (
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
from src.analysis.page.search import search_section
from src.analysis.page.test_set import Images, test_set_sections
from src.analysis.search import arms_of, best_of_arms, trials_of
from src.analysis.table import SCORE, judged_by, varying_factors
from src.analysis.variation import as_repetitions, shares, variation_section
from src.runs.errors import near_names
from src.runs.escaping import printable


def page_of(
    title: str,
    everything: pd.DataFrame,
    *,
    tune: str | Sequence[str] = "auto",
    targets: Sequence[float] = (),
    baselines: Mapping[str, Any] | None = None,
    commands: Callable[..., Sequence[str]] = lambda **what: (),
    asked: Mapping[str, Any] = MappingProxyType({}),
    images: Images | None = None,
    sweeps: Sequence[Path] = (),
) -> Page:
    """Build the page.

    Args:
        title: the sweep's name.
        everything: all jobs, see ``load_runs``; at least one has completed.
        tune: a factor that is not compared but tuned, for each combination of the others, by the runs' score: its
            name, an empty list for none, or ``auto``, which tunes the learning rate if the optimiser varies too.
        targets: validation accuracies, 0 to 1, for the table of convergence.
        baselines: by factor, the level to compare with; by default the first that was requested.
        commands: gives those that finish the sweep, with ``finish`` and ``seeds`` as in ``src.sweeps.jobs.commands``.
        asked: ``question``, ``primary`` and ``smallest_effect``, as in a config, instead of what the runs stated.
        images: of a run's test set, to draw those that changed most often; None draws none.
        sweeps: their folders, for figures of a search.

    Raises:
        ValueError: ``tune``, a baseline or the primary comparison of ``asked`` names something that does not exist, or
            there is no score to tune by.
    """
    experiments = without_repetitions(everything[everything.status == "completed"])
    searched = []
    if len(trials_of(everything)):
        arms = arms_of(experiments)
        searched = [search_section(everything, arms, sweeps)]
        experiments = best_of_arms(experiments, arms)
    alone, spread = variation_section(shares(experiments))
    completed = as_repetitions(experiments)
    factors = varying_factors(completed)
    if unknown := [name for name in baselines or () if name not in factors]:
        near = near_names(unknown[0], factors) if factors else "nothing varies."
        raise ValueError(f"baseline.{unknown[0]}: there is no factor {unknown[0]}; {near}")
    question, doubts = asked_of(experiments, asked)
    if question.metric == SCORE:
        question = question._replace(metric=judged_by(experiments))
    smallest_effect = question.smallest_effect
    warnings = [*doubts, *caveats(everything, completed, factors)]
    tuned = _tuned(tune, factors)
    runs, tuning, tried = completed, [], None
    if tuned is not None:
        try:
            tried = trials(completed, factors, tuned, everything)
        except ValueError as error:
            if tune != "auto":
                raise
            warnings.append(f"{error} Here it is compared like any other factor.")
            tuned = None
        else:
            runs = chosen_runs(completed, tried, factors)
            factors = [factor for factor in factors if factor != tuned]
            tuning = [sections.tuning_section(tried, factors, tuned)]
            warnings = [*unequally_tuned(tried, factors, tuned), *warnings, *at_grid_edge(tried, factors, tuned)]
    table = configurations(runs, factors)
    center = recipe(table, factors, everything)
    if center is not None:
        baselines = center[factors].to_dict() | dict(baselines or {})
    primary = pd.DataFrame()
    if question.factor:
        try:
            primary = primary_effects(runs, factors, question, baselines)
        except ValueError as error:
            told = f"The primary comparison cannot be made: {error}"
            if (asked.get("primary") or {}).get("factor") is not None:
                raise ValueError(told) from None
            remedy = "State another with primary.factor=… and primary.levels=[…] of python -m src.report."
            warnings.insert(0, f"{told} {remedy}")
        else:  # in one direction everywhere
            baselines = {**(baselines or {}), question.factor: primary.baseline.iloc[0]}
    cells = grid(runs, factors, baselines)
    at_every_look = cells.at_every_look
    warnings += barely_above_chance(table, factors)
    if cells.left_out:
        names = ", ".join(printable(folder.name) for folder in cells.left_out)
        warnings.append(f"No effect is computed from {names}: another run has the same factors and seed.")
    asked_for = primary if question.metric == cells.metric else primary.iloc[:0]
    answered = {(row.factor, repr(row.baseline), repr(row.level)) for row in asked_for.itertuples()}
    effects = main_effects(cells, smallest_effect, besides=answered)
    crossed = interactions(cells, smallest_effect)
    against_best = compare_with_best(table, factors, smallest_effect, at_every_look=at_every_look)
    for part in (effects, primary) if center is not None else ():
        part["possible"] = part.get("averaged")  # the rest of the grid was not asked for
    worth = []
    if len(effects) or len(crossed):
        mixed, exploratory = mixed_effects(cells, smallest_effect), len(primary) > 0
        worth = [sections.effects_section(effects, crossed, mixed, factors, at_every_look, exploratory=exploratory)]
    if len(factors) > 1:
        worth.append(sections.simple_section(simple_effects(cells, smallest_effect), at_every_look))
    if center is not None:
        worth = [design_section(worth[-1], center, factors)]
    scale, launched = _scale(experiments), commands(finish=False)
    methods = sections.methods(runs, table, factors, tuned, smallest_effect, at_every_look, scale, launched)
    curves = runs.curve.map(len).any()  # not of runs that were only tested again, nor without metrics.csv
    return Page(
        title,
        scale,
        question.question,
        compared(primary, factors, tried, smallest_effect, commands, question.metric),
        [*conclusion(table, against_best, effects, crossed, factors, tried, smallest_effect, commands), *alone],
        warnings,
        sections.results(table, against_best, factors, at_every_look, methods),
        sections.overview(primary if len(primary) else effects, smallest_effect),
        [
            *([sections.primary_section(primary, factors, at_every_look)] if len(primary) else []),
            sections.accuracy_section(runs, table, factors, tuned),
            *searched,
            *tuning,
            *worth,
            *spread,
            *test_set_sections(runs, cells, factors, images),
            *([sections.learning_section(runs, factors, targets)] if curves else []),
            sections.cost_section(runs, table, factors),
            *sections.grid_sections(runs, factors),
            *([sections.loss_section(runs, factors)] if curves else []),
            sections.jobs_section(everything, commands()),
            sections.settings_section(experiments),
            sections.reading_section(),
            Section("Methods, for a paper", [methods], folded=True),
        ],
    )


_OWN_WORDS = ("data", "trainer", "experiment", "scale")  # groups that ``_scale`` tells of in other words


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
    """What all runs share and the size of the experiment, in one line."""

    def spell(key: str, everything: str) -> str:
        values = {str(settings.get(key)): settings.get(key) for settings in runs.settings}
        spelled = (f"{value:,g}" if isinstance(value, int | float) else printable(value) for value in values.values())
        return ", ".join(everything if text == "None" else text for text in sorted(spelled))

    groups = dict.fromkeys(key.split(".")[0] for settings in runs.settings for key in settings)
    chosen = {group: {choices.get(group) for choices in runs.choices} for group in groups if group not in _OWN_WORDS}
    common = [f"{group} {printable(*names)}" for group, names in chosen.items() if len(names) == 1 and names != {None}]
    data = ", ".join(sorted({choices["data"] for choices in runs.choices if "data" in choices}))
    seeds, epochs = sorted(set(runs.seed)), spell("trainer.max_epochs", "?")
    parts = [
        ", ".join(common),
        data,
        f"{spell('data.train_size', 'all')} training images",
        f"{epochs} epoch{'' if epochs == '1' else 's'}",
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
        ", ".join(sorted(set(runs.device.dropna()))),
    ]
    return "; ".join(part for part in parts if part)
