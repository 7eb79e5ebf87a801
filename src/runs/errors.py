"""Error messages for the user: one sentence each."""

import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from omegaconf.errors import MissingMandatoryValue

from src.runs.escaping import printable

# Our own checks, the operating system and torch raise these for a user's mistake: the message alone is clear.
# For any other error the type is shown too.
_SPEAKS_FOR_ITSELF = (ValueError, OSError, FloatingPointError)
_LONGEST = 500  # characters of a library's message
DIVERGED = "training diverged"  # in the error of a run whose loss became infinite or NaN


def sentence(error: BaseException) -> str:
    """An error in one line, without the exception that Hydra wraps around an error of a constructor; of one that does
    not speak for itself, also the last line of code that is no library's."""
    while type(error).__name__ == "InstantiationException" and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    if isinstance(error, MissingMandatoryValue):
        key = text.partition(": ")[2].split(" ")[0]
        return printable(f"{key} has no value: set it, as in {key}=VALUE.")
    # Messages for main memory (Python, torch on Linux and Windows) and for GPU memory.
    full = "can't allocate memory|not enough memory|out of memory"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and re.search(full, text)):
        wanted = re.search(r"allocate ([\d.]+ \w+)", text)
        amount = f" ({wanted[1]} more were needed)" if wanted else ""
        return f"Out of memory{amount}: choose a smaller data.batch_size or data.eval_batch_size."
    if speaks_for_itself(error):
        return printable(text)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not {"site-packages", "dist-packages"} & set(Path(frame.filename).parts)]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
    return printable(f"{type(error).__name__}: {text}{place}")


def speaks_for_itself(error: BaseException) -> bool:
    """Whether its message alone is clear."""
    return bool(str(error)) and (isinstance(error, _SPEAKS_FOR_ITSELF) or type(error).__module__.startswith("src."))


def near_names(wrong: str, known: Iterable[str]) -> str:
    """The end of a sentence about a wrong name: the names of ``known`` that are like it, else all of them, up to 40."""
    names = sorted(set(known))
    if near := get_close_matches(wrong, names):
        return f"did you mean {' or '.join(near)}?"
    return f"choose one of: {', '.join(names)}." if len(names) <= 40 else "no name there is like it."


def stop(error: BaseException, *, debug: bool) -> NoReturn:
    """Print ``error``, with its stack trace if ``debug`` is set, and exit with 1."""
    if debug:
        traceback.print_exception(error)
    else:
        print(sentence(error), file=sys.stderr)
    raise SystemExit(1)


@contextmanager
def errors_as_sentence(*, debug: bool) -> Iterator[None]:
    """Print an error of the block and exit with 1, see ``stop``."""
    try:
        yield
    except Exception as error:
        stop(error, debug=debug)
