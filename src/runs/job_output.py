"""Output of processes that share the screen."""

import logging
import sys
from typing import Any

from hydra.types import RunMode


def concurrent_job_name(hydra: Any) -> str | None:
    """The name of a job that shares the screen with others, from Hydra's configuration; None for a single job."""
    launcher = hydra.runtime.choices["hydra/launcher"]
    return hydra.sweep.subdir if hydra.mode == RunMode.MULTIRUN and launcher != "basic" else None


def log_handler() -> logging.Handler:
    """The log handler: above the progress bar on a terminal, plain lines elsewhere."""
    import rich
    from rich.logging import RichHandler

    if rich.get_console().is_terminal:
        return RichHandler(show_path=False, log_time_format="%H:%M:%S")
    return _plain("%(asctime)s %(levelname)s %(message)s")


def prefix_output(job: str) -> None:
    """Prefix every log line with the job's name, and turn off progress bars."""
    import rich

    rich.reconfigure(force_terminal=False, width=200)
    root = logging.getLogger()
    files = [handler for handler in root.handlers if isinstance(handler, logging.FileHandler)]
    root.handlers = [*files, _plain(f"{job.replace('%', '%%')}  %(message)s")]


def _plain(form: str) -> logging.Handler:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(form, "%H:%M:%S"))
    return handler
