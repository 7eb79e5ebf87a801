"""A page as Markdown, with figures in separate files."""

from src.analysis.page.page import Drawing, Page, Section, Table
from src.runs.escaping import markdown


def to_markdown(page: Page) -> str:
    """The whole page; figures are ``figures/<name>.png``."""
    lines = [f"# {markdown(page.question or page.title)}", "", markdown(page.scale), ""]
    if page.answers:
        lines += ["## Answer", "", *(f"- {markdown(finding.text)}" for finding in page.answers), ""]
    lines += [f"## {'Exploratory' if page.answers else 'Conclusion'}", ""]
    lines += [f"- {markdown(finding.text)}" for finding in page.findings]
    if page.overview:
        lines += ["", *_drawing(page.overview)]
    if page.caveats:
        lines += ["", "## Before you trust it", "", *(f"- {markdown(caveat)}" for caveat in page.caveats)]
    for section in page.sections:
        lines += ["", *_section(section)]
    return "\n".join(lines) + "\n"


def _section(section: Section) -> list[str]:
    lines = [f"## {markdown(section.title)}"]
    for part in section.parts:
        lines.append("")
        if isinstance(part, Table):
            lines += _table(part)
        elif isinstance(part, Drawing):
            lines += _drawing(part)
        else:
            lines.append(markdown(part))
    return lines


def _drawing(drawing: Drawing) -> list[str]:
    return [f"![{drawing.name}](figures/{drawing.name}.png)", "", markdown(drawing.caption)]


def _table(table: Table) -> list[str]:
    rows = [table.columns, ["---"] * len(table.columns), *([cell.text for cell in row] for row in table.rows)]
    lines = ["| " + " | ".join(markdown(text) for text in row) + " |" for row in rows]
    return [*lines, "", markdown(table.note)] if table.note else lines
