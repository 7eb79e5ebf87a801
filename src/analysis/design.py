"""Sweeps that change one thing at a time around a recipe, such as those of design=leave_one_out."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from src.analysis.figures import label
from src.analysis.page.page import Section
from src.sweeps.jobs import ENDED


def recipe(table: pd.DataFrame, factors: Sequence[str], everything: pd.DataFrame | None = None) -> pd.Series | None:
    """The row of the one configuration from which every other differs in exactly one factor; None if there is none, or
    if only one factor varies.

    Args:
        table: see ``src.analysis.effects.configurations``.
        everything: all jobs; unfinished ones may be missing from ``table``, and of three quarters of a grid, one looks
            like the recipe of the other two.
    """
    levels = table[list(factors)].map(repr)
    around = [(levels != row).sum(axis=1).drop(place).eq(1).all() for place, row in levels.iterrows()]
    if len(factors) < 2 or sum(around) != 1:
        return None
    place = around.index(True)
    if everything is not None:
        left = everything[~everything.status.isin(ENDED) & everything.settings.map(bool)]
        if ((left[list(factors)].map(repr) != levels.iloc[place]).sum(axis=1) > 1).any():
            return None
    return table.iloc[place]


def design_section(simple: Section, center: pd.Series, factors: Sequence[str]) -> Section:
    """The ablation table.

    Args:
        simple: the section of simple effects, with the levels of the recipe as baselines.
        center: the result of ``recipe``.
    """
    text = (
        f"The recipe is {label(center, factors)}: {center['mean']:.2%} accuracy over {center.n} seeds. Each row "
        "changes one factor of it. Whether two changes add up cannot be seen here: that takes the full grid."
    )
    return replace(simple, title="One change at a time around the recipe", parts=[text, *simple.parts], folded=False)
