"""``python -m src.train`` in a process of its own, which can be killed.

Importing torch and Lightning takes seconds, so the processes are forked from one that has done so and nothing else.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PREPARED = ["tests.conftest", "src.training.build", "src.training.record", "src.data.digits", "src.models.simplecnn"]


def start(cwd: Path, *arguments: str, fault: Callable[[], None] | None = None) -> BaseProcess:
    """Launch in ``cwd``; what is printed is added to the file ``out`` there.

    Args:
        fault: is called in the new process before anything else; a function that can be imported.
    """
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)  # for the process that is forked from, if it is started now
    try:
        server = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload(_PREPARED)
        process = server.Process(target=_train, args=(cwd, arguments, fault))
        process.start()
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    return process


def run(cwd: Path, *arguments: str, fault: Callable[[], None] | None = None) -> int:
    """Launch, and wait for the exit code; negative if a signal ended it."""
    process = start(cwd, *arguments, fault=fault)
    process.join(120)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def _train(cwd: Path, arguments: tuple[str, ...], fault: Callable[[], None] | None) -> None:
    import pytest
    import torch

    import src.train
    from src.sweeps.command_line import run
    from tests.conftest import compose_once

    os.chdir(cwd)
    sys.argv = ["src", *arguments]
    torch.set_num_threads(1)
    compose_once(pytest.MonkeyPatch())
    if fault is not None:
        fault()
    with Path("out").open("a", buffering=1) as out, redirect_stdout(out), redirect_stderr(out):
        run(src.train.main)
