"""The run folder: where a run keeps what it did, and the one file, results.json, that says what happened.

.hydra/            what was asked for (Hydra writes it)
results.json       what came of it: status, factors, metrics, cost, provenance
metrics.csv        one row an epoch
events.out.*       what TensorBoard shows
checkpoints/       best.ckpt, last.ckpt, and previous.ckpt while training
train.log          what was printed, and the stack trace of an error
.lock              held by the process that runs it
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
    """Open a file to be written so that a reader, or a crash, meets the old file or the new one and nothing between.

    What is written goes to a file beside it, to the disk, and then into place. Whoever writes ``path`` is alone in it.

    Args:
        mode, options: as for ``open``.
        keep: where the old file is kept.
    """
    unfinished = path.with_name(f".{path.name}.part")  # always the same: one that a killed process left is replaced
    unfinished.unlink(missing_ok=True)  # and one that is a link is not followed
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
        self.log_file = self.path / "train.log"
        self.lock_file = self.path / ".lock"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.checkpoints / "best.ckpt"
        self.last = self.checkpoints / "last.ckpt"
        self.previous = self.checkpoints / "previous.ckpt"
        self.completed = self.path / ".completed"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for as long as the block lasts, or this process; children do not inherit the hold.

        Raises:
            RunInUse: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.lock_file)
        try:
            lock.acquire(timeout=1)  # whoever only looks, see ``is_locked``, has let go by then
        except Timeout:
            raise RunInUse(f"{self.path} is being run by {self.owner()}.") from None
        try:
            yield
        finally:
            lock.release()

    def is_locked(self) -> bool:
        """Whether a process is running it now."""
        try:
            if not is_own(self.lock_file.lstat()):  # it is no lock of ours, and not to be touched
                return False
            with FileLock(self.lock_file, timeout=0):
                return False
        except FileNotFoundError:
            return False
        except (Timeout, OSError):  # an OSError: it belongs to someone else
            return True

    def owner(self) -> str:
        """The process that took the run up last, in words."""
        try:
            return self.results()["process"]
        except (OSError, ValueError, KeyError):
            return "another process"

    def create(self, **known: Any) -> None:
        """Make the folder this run's own; ``known`` is recorded.

        Raises:
            FileExistsError: the folder already holds a run.
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
        """Write results.json anew: this process runs the run, and no more than ``known`` is known of it.

        What a completed run, which is to be trained longer, has achieved is kept, see ``restore``.
        """
        if known.get("status") == "completed":
            part = self.path / ".completed.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            for file in self._result():
                shutil.copy2(file, part)
            part.rename(self.completed)
        process = f"process {os.getpid()} on {socket.gethostname()}"
        write_json(
            self.results_file,
            known | {"schema": SCHEMA_VERSION, "status": "running", "error": None, "process": process},
        )

    def results(self) -> Results:
        """The content of results.json.

        Raises:
            FileNotFoundError: there is none, so this is no run folder.
            ValueError: it cannot be read, or does not say what it should.
        """
        try:
            if (
                self.results_file.is_file() and not self.results_file.stat().st_size
            ):  # a run that has its folder and nothing else yet
                return {}
            results = read_json(self.results_file, Results)
            known = results.keys() | parse_metrics(results.get("metrics", {}), "metrics").keys()
            if results.get("status") == "completed" and (missing := {"seed", "test/accuracy"} - known):
                raise ValueError(f"it is completed, and has no {', '.join(sorted(missing))}")
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path} is no run folder: it has no results.json. "
                "Run folders lie in logs/train/runs and logs/train/sweeps."
            ) from None
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.results_file} is damaged: {error}.") from None
        return results

    def epochs(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, see ``History``; none before the first epoch.

        Raises:
            ValueError: it cannot be read, or does not say what it should.
        """
        rows = []
        try:
            for row in csv.DictReader(io.StringIO(read_regular(self.metrics_file).decode(), newline="")):
                numbers = {name: float(value) for name, value in row.items() if value}
                own = {name: numbers.pop(name, math.nan) for name in ("epoch", "step", "seconds")}
                rows.append(parse(dict[str, Amount], own) | parse_metrics(numbers))
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise ValueError(f"{self.metrics_file} is damaged: {error}.") from None
        return rows

    def _result(self) -> list[Path]:
        """The files that a completed run's result consists of, the one that says so last."""
        return [self.best, self.last, self.metrics_file, self.results_file]

    def restore(self) -> bool:
        """Put the result of a completed run, which could not be trained longer, back in place, if there is one."""
        if not self.completed.exists():
            return False
        for file in self._result():
            if (kept := self.completed / file.name).exists():
                kept.replace(file)
        self.drop_completed()
        return True

    def drop_completed(self) -> None:
        """There is a new result."""
        shutil.rmtree(self.completed, ignore_errors=True)

    def update(self, **changes: Any) -> None:
        """Merge ``changes`` (JSON values) into results.json, atomically."""
        write_json(self.results_file, self.results() | changes)


def score(results: Mapping[str, Any]) -> float:
    """By what a sweep may choose, 0 to 1: accuracy on the validation set where there is one, else on the test set."""
    metrics = results["metrics"]
    return metrics.get("val/accuracy", metrics["test/accuracy"])
