"""Escape text from files for where it is shown. jinja escapes HTML, and rich escapes its own markup."""

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any


def printable(text: object) -> str:
    """``text`` on one line, with invisible characters escaped: the control character ESC becomes ``\\x1b``,
    a bidirectional override ``\\u202e``, a byte of a file name that is not UTF-8 ``\\udcff``."""
    text = str(text)
    if text.isprintable():  # nearly always
        return text
    return "".join(c if _shows(c) else c.encode("unicode_escape").decode() for c in text)


def distinct(names: Sequence[str], others: Iterable[str]) -> str:
    """``names``, comma-separated; a name that looks like one of ``others`` in another Unicode form is also escaped."""
    forms = {unicodedata.normalize("NFC", other) for other in set(others) - set(names)}
    alike = {name: unicodedata.normalize("NFC", name) in forms for name in names}
    return ", ".join(f"{n} ({n.encode('unicode_escape').decode()})" if alike[n] else printable(n) for n in names)


def tex(text: object) -> str:
    """Text for LaTeX, in which no character is a command; those that pdfLaTeX may not know are spelled out."""
    commands = dict.fromkeys("{}$&#%_", "\\{}") | {"-": "-{{}}", "\\": r"\textbackslash{{}}", "|": r"\textbar{{}}"}
    commands |= {"<": r"\textless{{}}", ">": r"\textgreater{{}}", "^": r"\^{{}}", "~": r"\~{{}}"}

    def shown(character: str) -> str:
        if character in commands:
            return commands[character].format(character)
        accented = ord(character) < 0x180 and unicodedata.normalize("NFD", character)[0].isascii()
        return character if accented or character in "±×–“”" else f"[U+{ord(character):04X}]"

    return "".join(map(shown, printable(text)))


def plural(count: float, noun: str) -> str:
    """``1 epoch``, ``1,200 epochs``, ``0.5 points``."""
    number = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{number} {noun}{'' if number == '1' else 's'}"


def _shows(character: str) -> bool:
    """Whether it is shown unescaped. So are wide spaces, and the joiners that some scripts and emoji need."""
    return character.isprintable() or unicodedata.category(character) == "Zs" or character in "\u200c\u200d"


def markdown(text: object) -> str:
    """``text`` as one line of Markdown that shows it literally, not as markup, HTML, link or image."""
    escaped = html.escape(printable(text), quote=False)
    escaped = re.sub(r"([\\`*|~$]|^#|(?<!\w)_|_(?!\w)|\](?=[(\[:]))", r"\\\1", escaped)
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;").replace("@", "&#64;")


def templates(folder: Path, escape: Callable[[object], str] | None = None) -> Any:
    """The jinja templates in a folder; ``escape`` makes text of a value, HTML's own if None."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def escaped(value: object) -> object:
        return value if escape is None or isinstance(value, Markup) else Markup(escape(value))

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=escape is not None,
    )


def csv_cell(value: Any) -> Any:
    """A value as a CSV cell that no spreadsheet reads as a formula; a number stays a number."""
    if value is None or isinstance(value, int | float):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text
