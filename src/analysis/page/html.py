"""A page as one self-contained HTML file, with styles, scripts and figures."""

from base64 import b64encode
from pathlib import Path

from src.analysis.figures import for_page
from src.analysis.page.page import Drawing, Page, Table

_HERE = Path(__file__).parent


def to_html(page: Page) -> str:
    """The whole page. Text from runs is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests |= {
        "table": lambda part: isinstance(part, Table),
        "drawing": lambda part: isinstance(part, Drawing),
    }
    environment.filters["source"] = _source
    environment.filters["number"] = lambda cell: not isinstance(cell.value, str)
    return environment.get_template("page.html").render(
        page=page, style=(_HERE / "page.css").read_text("utf-8"), script=(_HERE / "page.js").read_text("utf-8")
    )


def _source(drawing: Drawing) -> str:
    """The figure as a data URI for an image, which can neither run scripts nor load anything."""
    return "data:image/svg+xml;base64," + b64encode(for_page(drawing.svg).encode()).decode()
