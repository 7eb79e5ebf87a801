"""Commands to print, quoted so that they can be pasted into a shell."""

import re
import shlex
from contextlib import suppress
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from src.runs.escaping import printable


def command(module: str, *overrides: str, **settings: Any) -> str:
    """A command line for a shell.

    Args:
        module: such as ``src.eval``.
        overrides: options, and overrides as Hydra reads them.
        settings: values that Hydra must read as these strings.
    """
    words = [*overrides, *(setting(key, value) for key, value in settings.items())]
    return printable(" ".join(["python", "-m", module, *map(shell_word, words)]))


def setting(key: str, value: Any) -> str:
    """The override that sets ``key`` to the string ``value``, quoted if Hydra would otherwise read another value."""
    plain = f"{key}={value}"
    with suppress(HydraException):
        if "$" not in plain and OverridesParser.create().parse_override(plain).value() == str(value):
            return plain
    # Backslashes escape only a quote (Hydra) or ${ (OmegaConf, which would interpolate it).
    escaped = re.sub(r"(\\*)(\$\{|'|$)", lambda found: 2 * found[1] + ("\\" + found[2] if found[2] else ""), str(value))
    return f"{key}='{escaped}'"


def shell_word(word: str) -> str:
    """Quote a word for POSIX shells; in double quotes if possible, because Windows shells have no others."""
    quoted = shlex.quote(word)
    return quoted if quoted == word or re.search(r'["$`\\!]', word) else f'"{word}"'
