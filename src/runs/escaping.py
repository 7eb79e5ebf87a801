"""Text that came out of a file, made fit for where it is shown. HTML is escaped by jinja, rich's markup by rich."""

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any


def printable(text: object) -> str:
    """``text`` on one line, with what does not show as itself spelled out: the control character ESC becomes ``\\x1b``,
    a bidirectional override ``\\u202e``, a byte of a file name that is not UTF-8 ``\\udcff``."""
    return "".join(c if _shows(c) else c.encode("unicode_escape").decode() for c in str(text))


def distinct(names: Sequence[str], others: Iterable[str]) -> str:
    """``names``, comma-separated; one that looks like one of ``others``, in another Unicode form, is spelled out."""
    forms = {unicodedata.normalize("NFC", other) for other in set(others) - set(names)}
    alike = {name: unicodedata.normalize("NFC", name) in forms for name in names}
    return ", ".join(f"{n} ({n.encode('unicode_escape').decode()})" if alike[n] else printable(n) for n in names)


def plural(count: int, noun: str) -> str:
    """``1 epoch``, ``1,200 epochs``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _shows(character: str) -> bool:
    """Whether it shows as itself. So do wide spaces, and the joiners that some scripts and emoji are spelled with."""
    return character.isprintable() or unicodedata.category(character) == "Zs" or character in "\u200c\u200d"


def markdown(text: object) -> str:
    """``text`` as one line of Markdown that shows it as it is: it is no markup, HTML, link or image."""
    escaped = html.escape(printable(text), quote=False)
    escaped = re.sub(r"([\\`*|~$]|^#|(?<!\w)_|_(?!\w)|\](?=[(\[:]))", r"\\\1", escaped)
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;").replace("@", "&#64;")


def csv_cell(value: Any) -> Any:
    """A value as a cell that no spreadsheet takes for a formula; a number stays one."""
    if value is None or isinstance(value, int | float):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text
