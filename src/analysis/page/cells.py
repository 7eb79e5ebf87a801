"""Cells of tables: a value in words, with its sort key."""

import math
from typing import Any

from src.analysis.figures import level_name
from src.analysis.page.page import Cell

NONE = Cell("–", -math.inf)


def arrow(change: tuple[Any, Any]) -> str:
    """A change of a factor: its baseline and its level."""
    return " → ".join(map(level_name, change))


def level_cell(level: Any) -> Cell:
    """The level of a factor."""
    numeric = isinstance(level, int | float) and not isinstance(level, bool)
    return Cell(level_name(level), level if numeric else level_name(level))


def text_cell(text: str) -> Cell:
    return Cell(text, text)


def count_cell(n: int) -> Cell:
    return Cell(str(n), n)


def percent_cell(fraction: float) -> Cell:
    """A share, 0 to 1, in percent; – for NaN."""
    return NONE if math.isnan(fraction) else Cell(f"{100 * fraction:.2f}", fraction)
