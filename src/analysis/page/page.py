"""The parts of a report, before it is written as Markdown or HTML."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure

from src.analysis.figures import Chart, to_svg
from src.analysis.statistics import Verdict


class Cell(NamedTuple):
    text: str  # as shown
    value: float | str  # the sort key: a number, or the text itself


class Table(NamedTuple):
    columns: list[str]  # headers
    rows: list[list[Cell]]  # one cell per column
    note: str = ""  # the method behind the numbers, in plain words


@dataclass(frozen=True)
class Drawing:
    name: str  # of its files
    figure: Figure
    caption: str  # what it shows

    @cached_property
    def svg(self) -> str:
        """The drawing, on white."""
        return to_svg(self.figure)

    @cached_property
    def spots(self) -> list[tuple[float, float, str]]:
        """See ``Chart``; none for a figure that has no tips."""
        return self.figure.spots() if self.svg and isinstance(self.figure, Chart) else []

    def save(self, folder: Path) -> None:
        """Save it in ``folder`` as PNG, SVG, and PDF with its fonts."""
        svg = self.svg
        self.figure.set_layout_engine(None)  # that of the first drawing stays; hinted text would be wider
        with rc_context({"text.hinting": "none"}):
            self.figure.savefig(folder / f"{self.name}.png", dpi=110)
        with rc_context({"pdf.fonttype": 42, "text.parse_math": False}):
            self.figure.savefig(folder / f"{self.name}.pdf", metadata={"CreationDate": None})
        (folder / f"{self.name}.svg").write_text(svg, encoding="utf-8")


@dataclass(frozen=True)
class Section:
    title: str  # the heading
    parts: list[str | Table | Drawing]  # paragraphs, tables and figures, in order
    folded: bool = False  # whether it is collapsed in HTML

    def drawings(self) -> list[Drawing]:
        return [part for part in self.parts if isinstance(part, Drawing)]


class Finding(NamedTuple):
    """One sentence of the conclusion."""

    kind: Verdict | None  # None for a fact
    text: str


class Results(NamedTuple):
    """The configurations, for a paper."""

    factors: list[str]
    rows: list[list[str]]  # levels, mean ± standard deviation, n
    best: list[bool]  # of each row: whether it has the highest mean, or was not found to differ from that
    caption: str
    methods: str  # a paragraph


@dataclass(frozen=True)
class Page:
    title: str  # the sweep's name
    scale: str  # what was run, in one line
    question: str  # what the runs were to find out; may be empty
    answers: list[Finding]  # the primary comparison; empty if none was stated
    findings: list[Finding]  # the conclusion; exploratory if there are answers
    caveats: list[str]  # reasons to doubt it
    results: Results
    overview: Drawing | None  # the comparisons in one figure
    sections: list[Section] = field(default_factory=list)  # the evidence

    def drawings(self) -> list[Drawing]:
        """All figures, in order."""
        overview = [self.overview] if self.overview else []
        return overview + [drawing for section in self.sections for drawing in section.drawings()]
