"""The run folder: the files of a run. results.json describes the run and its result.

.hydra/            the requested configuration (written by Hydra)
results.json       the result: status, factors, metrics, cost, provenance
metrics.csv        one row per epoch
test_outcomes.npz  for each test image: true class, predicted class, probability of the true class
events.out.*       events for TensorBoard
checkpoints/       best.ckpt, last.ckpt, and previous.ckpt while training
train.log          the log, and the stack trace of an error
.lock              locked by the process that runs it
.completed/        the result of a completed run while it is trained longer
"""

import csv
import io
import json
import math
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from src.runs.command import setting, shell_word
from src.runs.file_schema import Amount, Results, parse, parse_metrics, read_json
from src.runs.files import is_own, read_regular

SCHEMA_VERSION = 2


@contextmanager
def write_whole(path: Path, mode: str = "w", *, keep: Path | None = None, **options: Any) -> Iterator[IO[Any]]:
    """Open a file for an atomic write: a reader, also after a crash, finds either the old file or the new one.

    The content is written to a temporary file beside ``path``, flushed to the disk, and renamed. Only one process may
    write ``path`` at a time.

    Args:
        mode, options: as for ``open``.
        keep: where to move the old file.
    """
    unfinished = path.with_name(f".{path.name}.part")  # a fixed name, so a killed process's leftover is replaced
    unfinished.unlink(missing_ok=True)  # and a link is not followed
    try:
        with unfinished.open(mode.replace("w", "x"), **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)  # the disk may be full
        raise


def write_json(path: Path, content: Any) -> None:
    """Write JSON, see ``write_whole``."""
    with write_whole(path, encoding="utf-8") as file:
        json.dump(content, file, indent=2)


class RunInUse(OSError):
    """Another process runs this run; the message says which."""


class RunFolder:
    """Paths of one run folder, and its results.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.results_file = self.path / "results.json"
        self.metrics_file = self.path / "metrics.csv"
        self.outcomes_file = self.path / "test_outcomes.npz"
        self.log_file = self.path / "train.log"
        self.lock_file = self.path / ".lock"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.checkpoints / "best.ckpt"
        self.last = self.checkpoints / "last.ckpt"
        self.previous = self.checkpoints / "previous.ckpt"
        self.completed = self.path / ".completed"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder until the block or this process ends; child processes do not inherit the lock.

        Raises:
            RunInUse: another process has the lock.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(self.lock_file).acquire(timeout=1)  # ``is_locked`` takes the lock only for a moment
        except Timeout:
            raise RunInUse(f"{self.path} is being run by {self.owner()}.") from None
        with lock:
            yield

    def is_locked(self) -> bool:
        """Whether a process is running this run now."""
        try:
            if not is_own(self.lock_file.lstat()):  # not our lock file: do not open it
                return False
            with FileLock(self.lock_file, timeout=0):
                return False
        except FileNotFoundError:
            return False
        except (Timeout, OSError):  # an OSError: another user's file
            return True

    def owner(self) -> str:
        """The latest process to run it, in words."""
        try:
            return self.results()["process"]
        except (OSError, ValueError, KeyError):
            return "another process"

    def create(self, **known: Any) -> None:
        """Create the folder for a new run, and record ``known``.

        Raises:
            FileExistsError: the folder already contains a run.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self.results_file.open("x").close()
        except FileExistsError:
            raise FileExistsError(
                f"{self.path} already holds a run, which is never overwritten; "
                f"continue it with {shell_word(setting('resume', self.path))}, or choose another folder."
            ) from None
        self.start_record(**known)

    def start_record(self, **known: Any) -> None:
        """Rewrite results.json with only ``known``, and with this process as the one that runs it.

        If a completed run will be trained longer, its result is backed up, see ``restore``.
        """
        if known.get("status") == "completed":
            part = self.path / ".completed.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            for file in self._result():
                if file.exists():  # runs of older versions have no test_outcomes.npz
                    shutil.copy2(file, part)
            part.rename(self.completed)
        process = f"process {os.getpid()} on {socket.gethostname()}"
        started = {"schema": SCHEMA_VERSION, "status": "running", "error": None, "process": process}
        write_json(self.results_file, known | started)

    def results(self) -> Results:
        """The content of results.json.

        Raises:
            FileNotFoundError: there is none, so this is not a run folder.
            ValueError: it cannot be read, or its content is invalid.
        """
        try:
            if self.results_file.is_file() and not self.results_file.stat().st_size:  # ``create`` has just made it
                return {}
            results = read_json(self.results_file, Results)
            known = results.keys() | parse_metrics(results.get("metrics", {}), "metrics").keys()
            if results.get("status") == "completed":
                if "seed" not in known:
                    raise ValueError("it is completed, and has no seed")
                if not {"test/accuracy", "val/accuracy"} & known:
                    raise ValueError("it is completed, and has neither test/accuracy nor val/accuracy")
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path} is no run folder: it has no results.json. "
                "Run folders lie in logs/train/runs and logs/train/sweeps."
            ) from None
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.results_file} is damaged: {error}.") from None
        return results

    def epochs(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, see ``History``; empty before the first epoch.

        Raises:
            ValueError: it cannot be read, or its content is invalid.
        """
        rows = []
        try:
            for row in csv.DictReader(io.StringIO(read_regular(self.metrics_file).decode(), newline="")):
                numbers = {name: float(value) for name, value in row.items() if value}
                own = {name: numbers.pop(name, math.nan) for name in ("epoch", "step", "seconds")}
                others = {name: numbers.pop(name) for name in list(numbers) if "/" not in name}  # such as lr-SGD
                rows.append(parse(dict[str, Amount], own) | parse(dict[str, float], others) | parse_metrics(numbers))
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise ValueError(f"{self.metrics_file} is damaged: {error}.") from None
        return rows

    def _result(self) -> list[Path]:
        """The files of a completed run's result; last the one that records the status."""
        return [self.best, self.last, self.metrics_file, self.outcomes_file, self.results_file]

    def restore(self) -> bool:
        """Restore the result of a completed run that could not be trained longer; False if there is none."""
        if not self.completed.exists():
            return False
        for file in self._result():
            if (kept := self.completed / file.name).exists():
                kept.replace(file)
        self.drop_completed()
        return True

    def drop_completed(self) -> None:
        """Delete the backup of a completed run's result."""
        shutil.rmtree(self.completed, ignore_errors=True)

    def update(self, **changes: Any) -> None:
        """Merge ``changes`` (JSON values) into results.json, atomically."""
        write_json(self.results_file, self.results() | changes)


def signed(metrics: Mapping[str, float], score: str) -> float | None:
    """The metric that the setting ``score`` names, so that higher is better: minus the loss for "-val/loss". One that
    is not a number is the worst, minus infinity."""
    value = metrics.get(score.removeprefix("-"))
    if value is None or math.isnan(value):
        return None if value is None else -math.inf
    return -value if score.startswith("-") else value


HIGHER_IS_BETTER = {"val/loss": False, "val/accuracy": True, "train/loss": False, "train/accuracy": True}


def check_direction(key: str, score: str, better: Mapping[str, bool | None] = HIGHER_IS_BETTER) -> None:
    """Check that the setting ``key`` is a metric with a minus before it if, and only if, it is to be low.

    Args:
        better: whether a metric is to be high; None if unknown.

    Raises:
        ValueError: the minus is missing, or too many.
    """
    metric = score.removeprefix("-")
    higher = better.get(metric)
    if higher is not None and higher == score.startswith("-"):
        expected = metric if higher else f"-{metric}"
        raise ValueError(f"{key} is {score}, which would choose the worst; expected {expected}.")


def accuracy(results: Mapping[str, Any]) -> tuple[str, float]:
    """What the accuracy of a run is in words, and its value, 0 to 1, NaN if there is none: that of the validation set
    if the run was not tested."""
    metrics = results.get("metrics", {})
    half, words = ("test", "test") if "test/accuracy" in metrics else ("val", "validation")
    return f"{words} accuracy", metrics.get(f"{half}/accuracy", math.nan)


def score(results: Mapping[str, Any]) -> float:
    """The value that a sweep optimises, by the run's setting ``score``: of the validation set if there is one, else
    its counterpart of the test set."""
    name = results.get("config", {}).get("score", "val/accuracy")
    value = signed(results["metrics"], name)
    value = signed(results["metrics"], name.replace("val/", "test/")) if value is None else value
    return accuracy(results)[1] if value is None else value
