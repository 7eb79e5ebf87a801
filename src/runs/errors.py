"""An error as the user reads it: one sentence."""

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from src.runs.escaping import printable

# What our own checks, the operating system and torch raise over a user's mistake: the message says it all.
# Any other kind of error is named by its type as well.
_SPEAKS_FOR_ITSELF = (ValueError, OSError, FloatingPointError)


def sentence(error: BaseException) -> str:
    """An error in one line. Hydra's wrapping around what a constructor raised is taken off."""
    while type(error).__name__ == "InstantiationException" and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    # The machine's memory, to Python and to torch on Linux and on Windows; a GPU's.
    full = "can't allocate memory|not enough memory|out of memory"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and re.search(full, text)):
        wanted = re.search(r"allocate ([\d.]+ \w+)", text)
        told = f" ({wanted[1]} more were needed)" if wanted else ""
        return f"Out of memory{told}: choose a smaller data.batch_size or data.eval_batch_size."
    return printable(text if isinstance(error, _SPEAKS_FOR_ITSELF) and text else f"{type(error).__name__}: {text}")


def stop(error: BaseException, *, debug: bool) -> NoReturn:
    """Tell the user about ``error``, with its stack trace where ``debug`` is set, and exit with 1."""
    if debug:
        traceback.print_exception(error)
    else:
        print(sentence(error), file=sys.stderr)
    raise SystemExit(1)


@contextmanager
def errors_as_sentence(*, debug: bool) -> Iterator[None]:
    """Explain an error of the block to the user and exit with 1, see ``stop``."""
    try:
        yield
    except Exception as error:
        stop(error, debug=debug)
