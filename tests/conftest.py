"""Runs of the real entry points, in this process, small enough to take a second."""

import contextlib
import csv
import io
import json
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rich
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import src.eval
import src.predict
import src.train
from src.sweeps import command_line

# 1294 training, 144 validation and 359 test images of 8 x 8; 200 of the former make 4 batches.
TINY = (
    "data=digits",
    "data.image_size=8",
    "data.train_size=200",
    "data.batch_size=50",
    "model=simplecnn",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "callbacks=none",
    "logger=none",
)
WATCHED = ("callbacks=default", "logger=tensorboard")  # as by default; a tiny run takes a third longer


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """What is trained here is too small for a second thread to help, and waiting for a busy core costs a lot."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images go to a cache of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@dataclass(frozen=True)
class Run:
    """What a command left behind: its exit code, what it printed, the folder it wrote."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def results(self) -> dict[str, Any]:
        return json.loads((self.folder / "results.json").read_text())

    @property
    def rows(self) -> list[dict[str, str]]:
        if not (self.folder / "metrics.csv").exists():
            return []
        with (self.folder / "metrics.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    @property
    def log(self) -> str:
        return (self.folder / "train.log").read_text()

    @property
    def events(self) -> EventAccumulator:
        return EventAccumulator(str(self.folder), {"scalars": 0, "images": 0}).Reload()

    def checkpoint(self, name: str = "last") -> dict[str, Any]:
        return torch.load(self.folder / "checkpoints" / f"{name}.ckpt", weights_only=True)

    def trained(self) -> tuple[Any, Any]:
        """All that training determines, and nothing that time does: what must be equal when two runs are."""
        checkpoint = self.checkpoint()
        names = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers")
        rows = [{k: v for k, v in row.items() if k != "seconds" and not k.startswith("speed/")} for row in self.rows]
        return to_bytes({name: checkpoint[name] for name in names}), rows


def to_bytes(state: Any) -> Any:
    """Tensors as bytes, so that ``==`` compares bit by bit."""
    if isinstance(state, torch.Tensor):
        return state.shape, state.dtype, state.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(state, dict):
        return {key: to_bytes(value) for key, value in state.items()}
    return [to_bytes(value) for value in state] if isinstance(state, list | tuple) else state


class Screen(io.StringIO):
    """What is printed, to a terminal or to a file."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.isatty = lambda: terminal  # type: ignore[method-assign]


def compose_once(patch: pytest.MonkeyPatch) -> None:
    """Hydra composes everything twice, first to read hydra.mode, which no test sets: a quarter of a second."""
    patch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda *_, **__: None, raising=False)


def launch(main: Callable[[], Any], cwd: Path, *arguments: str, terminal: bool = False) -> Run:
    """Call an entry point as ``python -m`` would, in folder ``cwd``."""
    out, err, code = Screen(terminal), Screen(terminal), 0
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    before = run_folders(cwd)
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # src chooses what a user sees; under pytest that is not in force
        patch.setattr(sys, "argv", ["src", *arguments])
        patch.setenv("COLUMNS", "300")
        patch.setenv("TERM", "xterm")
        patch.setattr(rich, "_console", None)  # a new one, which looks where it prints to
        patch.setenv("HYDRA_FULL_ERROR", "1")  # undoes what run() sets
        compose_once(patch)
        try:
            command_line.run(main)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        handler.close()
    root.handlers[:], root.level = handlers, level
    new = run_folders(cwd) - before
    return Run(code, out.getvalue(), err.getvalue(), new.pop() if len(new) == 1 else cwd)


def run_folders(cwd: Path) -> set[Path]:
    return {record.parent for record in cwd.glob("logs/*/runs/*/.hydra")}


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Run]:
    """``python -m src.train``, tiny, in an empty folder."""
    return lambda *overrides, **options: launch(src.train.main, tmp_path, *TINY, *overrides, **options)


@pytest.fixture
def train_as_given(tmp_path: Path) -> Callable[..., Run]:
    """``python -m src.train`` with these arguments alone."""
    return lambda *arguments: launch(src.train.main, tmp_path, *arguments)


@pytest.fixture(scope="session")
def resume(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """``python -m src.train resume=FOLDER``."""

    def resume(folder: Path, *overrides: str) -> Run:
        run = launch(src.train.main, tmp_path_factory.mktemp("resume"), f"resume={folder}", *overrides)
        return Run(run.code, run.out, run.err, folder)

    return resume


@pytest.fixture
def evaluate(tmp_path: Path) -> Callable[..., Run]:
    """``python -m src.eval``."""
    return lambda *arguments: launch(src.eval.main, tmp_path, *arguments)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A completed run of three epochs, for tests that only read it."""
    overrides = ("trainer.max_epochs=3", "trainer.log_every_n_steps=1", "optim.lr=0.02")
    return launch(src.train.main, tmp_path_factory.mktemp("finished"), *TINY, *WATCHED, *overrides)


@pytest.fixture
def predict(finished: Run, tmp_path: Path) -> Callable[..., Run]:
    """``python -m src.predict`` with that run, in an empty folder."""
    return lambda *arguments: launch(src.predict.main, tmp_path, f"ckpt={finished.folder}", "trainer=cpu", *arguments)


@pytest.fixture(scope="session")
def evaluated(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An evaluation of that run with everything in it."""
    options = ("trainer=cpu", "tta=[flip,none,flip_shift]", "corruptions=[jpeg,contrast]")
    return launch(src.eval.main, tmp_path_factory.mktemp("evaluated"), f"ckpt={finished.folder}", *options)


@pytest.fixture
def copy_of_finished(finished: Run, tmp_path: Path) -> Run:
    """The same, moved elsewhere, for tests that change it."""
    folder = tmp_path / "moved"
    shutil.copytree(finished.folder, folder)
    return Run(finished.code, finished.out, finished.err, folder)


@pytest.fixture(scope="session")
def launch_in(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """``python -m src.train``, tiny, in a folder of its own each time, for runs that several tests share."""
    return lambda *overrides: launch(src.train.main, tmp_path_factory.mktemp("run"), *TINY, *overrides)


@pytest.fixture(scope="session")
def launch_as_given_in(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """The same with these arguments alone."""
    return lambda *arguments: launch(src.train.main, tmp_path_factory.mktemp("run"), *arguments)
