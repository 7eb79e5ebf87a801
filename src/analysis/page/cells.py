"""Cells of tables: a value in words, with its sort key; and the notes under tables and figures."""

import math
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src.analysis.figures import level_name
from src.analysis.page.page import Cell, Table

NONE = Cell("–", -math.inf)
_NOTES = tomllib.loads(Path(__file__).with_name("notes.toml").read_text("utf-8"))
Column = tuple[str, Callable[[Any], Cell]]
"""A header, and the cell of a row of a frame."""


def note(name: str, **words: str) -> str:
    """A paragraph of notes.toml."""
    return " ".join(_NOTES[name].format(**words).split())


def table_of(frame: pd.DataFrame, columns: Sequence[Column], note: str = "") -> Table:
    """A row for each row of ``frame``; columns without any value are left out."""
    rows = [[cell(row) for _, cell in columns] for _, row in frame.iterrows()]
    filled = [not rows or any(row[place] != NONE for row in rows) for place in range(len(columns))]
    heads = [head for (head, _), there in zip(columns, filled, strict=True) if there]
    return Table(heads, [[cell for cell, there in zip(row, filled, strict=True) if there] for row in rows], note)


def column(head: str, name: str, cell: Callable[[Any], Cell] | str) -> Column:
    """A column of a frame: a cell of its value, or its value as a number in this format; – where it is unknown."""
    show = cell if callable(cell) else lambda value: Cell(cell.format(value), value)
    return head, lambda row: NONE if name not in row or pd.isna(row[name]) or row[name] == "" else show(row[name])


def level_columns(factors: Sequence[str]) -> list[Column]:
    """The levels of factors."""
    return [(name, lambda row, name=name: level_cell(row[name])) for name in factors]  # type: ignore[misc]


def arrow(change: tuple[Any, Any]) -> str:
    """A change of a factor: its baseline and its level."""
    return " → ".join(map(level_name, change))


def level_cell(level: Any) -> Cell:
    """The level of a factor."""
    numeric = isinstance(level, int | float) and not isinstance(level, bool)
    return Cell(level_name(level), level if numeric else level_name(level))


def text_cell(text: str) -> Cell:
    return Cell(text, text)


def percent_cell(fraction: float) -> Cell:
    """A share, 0 to 1, in percent; – for NaN."""
    return NONE if math.isnan(fraction) else Cell(f"{100 * fraction:.2f}", fraction)
