"""How a job ends: recorded in its run folder, and reported to the user in one sentence."""

import contextlib
import logging
import math
import os
import signal
import traceback
from collections.abc import Callable

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from src.runs.command import command
from src.runs.errors import sentence, stop
from src.runs.folder import RunFolder
from src.runs.trust import trust_override

log = logging.getLogger(__name__)


def run_job(job: Callable[[], float], folder: RunFolder, *, debug: bool) -> float:
    """Run ``job`` and record in ``folder`` whether it completed, failed, was pruned or interrupted.

    If training a completed run longer fails, the run stays completed and keeps its former result.

    Args:
        job: returns the metric that a sweep optimises.
        folder: the job's folder, with results.json.
        debug: whether to show stack traces. They are always in the log file.

    Returns:
        The result of ``job``; NaN for a pruned trial, and for a failed job of a multirun, so that the other jobs run.

    Raises:
        SystemExit: with 1, after an error in a single run.
        KeyboardInterrupt: the user stopped the job.
    """
    from src.training.callbacks.interrupt import Interrupted
    from src.training.callbacks.pruning import Pruned

    try:
        value = job()
    except Pruned as pruned:
        folder.update(status="pruned", error=str(pruned))
        log.info("%s: %s", folder.path.name, pruned)
        return math.nan
    except (Interrupted, KeyboardInterrupt, SystemExit) as stopped:
        # Only a second Ctrl-C raises KeyboardInterrupt; Lightning turns it into a SystemExit.
        reason = stopped if isinstance(stopped, Interrupted) else Interrupted(signal.SIGINT)
        folder.update(status="interrupted", error=str(reason))
        log.warning("Interrupted.")
        if HydraConfig.get().mode != RunMode.MULTIRUN:  # a sweep prints its own command, once
            trust = trust_override(folder.results().get("config", {}))
            # Not logged, which would wrap it.
            print(f"To resume it: {command('src.train', *trust, resume=folder.path)}")
        if "SUBMITIT_EXECUTOR" in os.environ:  # on this signal submitit requeues the job and ends this process
            signal.raise_signal(signal.Signals["SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")])
        raise SystemExit(128 + reason.number) from None
    except Exception as error:
        # On a full disk the run stays recorded as running, and is resumed like a killed run.
        with contextlib.suppress(OSError):
            if folder.restore():
                log.warning("%s keeps the result that it had: it could not be trained longer.", folder.path)
            else:
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
    folder.drop_completed()
    return value
