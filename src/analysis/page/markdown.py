"""A page as Markdown, with its figures as files beside it."""

from src.analysis.page.page import Drawing, Page, Section, Table


def to_markdown(page: Page) -> str:
    """The whole page; figures are ``figures/<name>.png``."""
    lines = [f"# {_escaped(page.title)}", "", _escaped(page.scale), "", "## Conclusion", ""]
    lines += [f"- {_escaped(finding.text)}" for finding in page.findings]
    if page.caveats:
        lines += ["", "## Before you trust it", "", *(f"- {_escaped(caveat)}" for caveat in page.caveats)]
    for section in page.sections:
        lines += ["", *_section(section)]
    return "\n".join(lines) + "\n"


def _section(section: Section) -> list[str]:
    lines = [f"## {_escaped(section.title)}"]
    for part in section.parts:
        lines.append("")
        if isinstance(part, Table):
            lines += _table(part)
        elif isinstance(part, Drawing):
            lines += [f"![{part.name}](figures/{part.name}.png)", "", _escaped(part.caption)]
        else:
            lines.append(_escaped(part))
    return lines


def _table(table: Table) -> list[str]:
    rows = [table.columns, ["---"] * len(table.columns), *([cell.text for cell in row] for row in table.rows)]
    lines = ["| " + " | ".join(_escaped(text).replace("|", "\\|") for text in row) + " |" for row in rows]
    return [*lines, "", _escaped(table.note)] if table.note else lines


def _escaped(text: str) -> str:
    """One line, in which nothing is HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
