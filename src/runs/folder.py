"""The run folder: where a run keeps what it did, and the one file, results.json, that says what happened.

.hydra/            what was asked for (Hydra writes it)
results.json       what came of it: status, factors, metrics, cost, provenance
metrics.csv        one row an epoch
tensorboard/       events
checkpoints/       best.ckpt, last.ckpt
train.log          what was printed, and the stack trace of an error
"""

import json
import os
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader, or a crash, meets the old file or the new one and nothing between."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


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
        self.checkpoints = self.path / "checkpoints"
        self.best = self.checkpoints / "best.ckpt"
        self.last = self.checkpoints / "last.ckpt"

    def claim(self) -> None:
        """Make the folder this run's own.

        Raises:
            FileExistsError: the folder already holds a run.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self.results_file.open("x").close()
        except FileExistsError:
            raise FileExistsError(
                f"{self.path} already holds a run, which is never overwritten; "
                f"continue it with resume={self.path}, or choose another folder."
            ) from None
        self.update(schema=SCHEMA_VERSION, status="running", error=None)

    def results(self) -> dict[str, Any]:
        """The content of results.json.

        Raises:
            FileNotFoundError: there is none, so this is no run folder.
            ValueError: it is not a JSON object.
        """
        try:
            content = self.results_file.read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path} is no run folder: it has no results.json. "
                "Run folders lie in logs/train/runs and logs/train/sweeps."
            ) from None
        try:
            results = json.loads(content) if content else {}
            if not isinstance(results, dict):
                raise ValueError("no JSON object")
        except ValueError as error:
            raise ValueError(f"{self.results_file} is damaged ({error}); delete the folder and run again.") from None
        return results

    def links_out(self) -> list[Path]:
        """Symbolic links in the folder that lead out of it."""
        home = self.path.resolve()
        links = (path for path in self.path.rglob("*") if path.is_symlink())
        return [link for link in links if not link.resolve().is_relative_to(home)]

    def update(self, **changes: Any) -> None:
        """Merge ``changes`` (JSON values) into results.json, atomically."""
        write_json(self.results_file, self.results() | changes)
