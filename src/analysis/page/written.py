"""A page as one self-contained HTML file, as Markdown, and as LaTeX. Text from runs is escaped in each."""

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.analysis.figures import for_page
from src.analysis.page.page import Drawing, Page, Table
from src.runs.escaping import markdown, templates, tex

_HERE = Path(__file__).parent


def to_html(page: Page) -> str:
    """The whole page, with styles, scripts and figures."""
    style, script = ((_HERE / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return _written("page.html", None, page=page, style=style, script=script)


def to_markdown(page: Page) -> str:
    """The whole page; figures are ``figures/<name>.png``."""
    return _written("page.md.jinja", markdown, page=page)


def to_tex(page: Page) -> str:
    """A document to copy from: configurations, figures, which are ``figures/<name>.pdf``, and methods."""
    return _written("page.tex.jinja", tex, page=page)


def _written(template: str, escape: Callable[[object], str] | None, **values: Any) -> str:
    """Fill a template; ``escape`` makes text of a value, HTML's own if None."""
    from markupsafe import Markup

    environment = templates(_HERE, escape)
    environment.tests["table"] = lambda part: isinstance(part, Table)
    environment.tests["drawing"] = lambda part: isinstance(part, Drawing)
    environment.filters["source"] = _source
    environment.filters["number"] = lambda cell: not isinstance(cell.value, str)
    environment.filters["score"] = lambda score: Markup(tex(score).replace("±", r"\pm"))
    return environment.get_template(template).render(values)


def _source(drawing: Drawing) -> str:
    """The figure as a data URI for an image, which can neither run scripts nor load anything."""
    return "data:image/svg+xml;base64," + b64encode(for_page(drawing.svg).encode()).decode()
