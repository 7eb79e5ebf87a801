"""What a process prints that shares the screen with others."""

import logging
from typing import Any

from hydra.types import RunMode


def beside_others(hydra: Any) -> str | None:
    """The name of a job that shares the screen with others, by Hydra's own configuration; None for one alone."""
    launcher = hydra.runtime.choices["hydra/launcher"]
    return hydra.sweep.subdir if hydra.mode == RunMode.MULTIRUN and launcher != "basic" else None


def share_screen(job: str) -> None:
    """Say in every line whose it is, and draw no progress bars."""
    import rich

    rich.reconfigure(force_terminal=False, width=200)
    for handler in logging.getLogger().handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setFormatter(logging.Formatter(f"{job.replace('%', '%%')}  %(message)s"))
