"""How a job ends: recorded in its run folder, and told to the user in one sentence."""

import contextlib
import logging
import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from src.runs.folder import RunFolder

log = logging.getLogger(__name__)

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
    return text if isinstance(error, _SPEAKS_FOR_ITSELF) and text else f"{type(error).__name__}: {text}"


def stop(error: BaseException, *, debug: bool) -> NoReturn:
    """Tell the user about ``error``, with its stack trace where ``debug`` is set, and exit with 1."""
    if debug:
        traceback.print_exception(error)
    else:
        print(sentence(error), file=sys.stderr)
    raise SystemExit(1)


def run_job(job: Callable[[], float], folder: RunFolder, *, debug: bool) -> float:
    """Run ``job`` and record in ``folder`` whether it completed, failed or was interrupted.

    Args:
        job: returns the metric that a sweep optimises.
        folder: the job's own; results.json is in it.
        debug: whether to show stack traces. They are always in the log file.

    Returns:
        What ``job`` returns; NaN for a failed job of a multirun, so that the others go on.

    Raises:
        SystemExit: with 1, after an error in a single run.
        KeyboardInterrupt: the user stopped the job.
    """
    from src.callbacks.interrupt import Interrupted

    try:
        value = job()
    except (Interrupted, KeyboardInterrupt, SystemExit) as stopped:
        # Lightning turns a KeyboardInterrupt, which only a second Ctrl-C raises, into a SystemExit.
        reason = stopped if isinstance(stopped, Interrupted) else Interrupted(signal.SIGINT)
        folder.update(status="interrupted", error=str(reason))
        log.warning("Interrupted.")
        print(f"To go on: python -m src.train resume={folder.path}")  # not logged, which would break long lines
        if "SUBMITIT_EXECUTOR" in os.environ:  # what submitit waits for, to queue the job again and end this process
            signal.raise_signal(signal.Signals["SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")])
        raise SystemExit(128 + reason.number) from None
    except Exception as error:
        # On a full disk the run stays recorded as running, and will go on like one that was killed.
        with contextlib.suppress(OSError):
            folder.update(status="failed", error=sentence(error))
            with folder.log_file.open("a", encoding="utf-8") as file:
                traceback.print_exception(error, file=file)
        if HydraConfig.get().mode != RunMode.MULTIRUN:
            stop(error, debug=debug)
        if debug:
            traceback.print_exception(error)
        log.error("%s", sentence(error))
        return math.nan
    folder.update(status="completed", error=None)
    return value
