"""What a report is made of, before it is written as Markdown or HTML."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from src.analysis.figures import to_svg


class Cell(NamedTuple):
    """A table's cell.

    Args:
        text: what is shown.
        value: what it is sorted by: a number, or the text itself.
    """

    text: str
    value: float | str


@dataclass(frozen=True)
class Table:
    """Args:
    columns: their heads.
    rows: as many cells each.
    note: how the figures came about, in plain words.
    """

    columns: list[str]
    rows: list[list[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Drawing:
    """Args:
    name: of its files.
    figure: the drawing.
    caption: what it shows.
    """

    name: str
    figure: Figure
    caption: str

    @cached_property
    def svg(self) -> str:
        """The drawing, on white."""
        return to_svg(self.figure)

    def save(self, folder: Path) -> None:
        """Write it into ``folder`` as PNG and SVG."""
        self.figure.savefig(folder / f"{self.name}.png", dpi=110)
        (folder / f"{self.name}.svg").write_text(self.svg, encoding="utf-8")


@dataclass(frozen=True)
class Section:
    """Args:
    title: the heading.
    parts: paragraphs, tables and figures, in order.
    folded: whether an HTML page shows it only when asked to.
    """

    title: str
    parts: list[str | Table | Drawing]
    folded: bool = False


@dataclass(frozen=True)
class Finding:
    """One sentence of the conclusion.

    Args:
        kind: ``clear`` (an effect told from luck), ``open`` (not told from luck, or not tested) or ``fact``.
        text: the sentence.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Page:
    """Args:
    title: the sweep's name.
    scale: what was run, in one line.
    findings: the conclusion.
    caveats: what to know before trusting it.
    sections: the evidence.
    """

    title: str
    scale: str
    findings: list[Finding]
    caveats: list[str]
    sections: list[Section] = field(default_factory=list)

    def drawings(self) -> list[Drawing]:
        """All figures, in order."""
        return [part for section in self.sections for part in section.parts if isinstance(part, Drawing)]
