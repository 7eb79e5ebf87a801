"""Times that a user waits: start of commands, sweeps, a run up to a target accuracy; and memory use."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import pandas as pd
from omegaconf import DictConfig

from src.benchmarks.augmentation import batches
from src.benchmarks.measure import Contender, Row, Tick, own_process
from src.runs.provenance import peak_memory
from src.training.build import build_data

ROOT = Path(__file__).parents[2]
# Everything a run does, on real images, in one step.
_SHORT = ("data=digits", "data.train_size=64", "data.batch_size=64", "trainer.max_epochs=1")
_NOTES = "+callbacks.notes._target_=src.benchmarks.commands.Notes"
_MEGABYTE = 1e6


class Notes(L.Callback):
    """Writes the time of the first optimiser step and the peak memory of the process, in bytes, to the run folder."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == 1:
            Path(trainer.default_root_dir, "first_step").write_text(str(time.time()))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        Path(trainer.default_root_dir, "peak_memory").write_text(str(peak_memory()))


@contextmanager
def _trained(*arguments: str, cwd: Path | None = None) -> Iterator[tuple[float, Path]]:
    """Seconds that ``python -m src.train`` took, and its output folder: ``run`` for a run, ``logs`` for a sweep.
    The folder is deleted afterwards."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "src.train", *arguments, f"hydra.run.dir={folder / 'run'}"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        output = folder / "output.txt"
        start = time.perf_counter()
        with output.open("w") as file:
            ended = subprocess.run(command, cwd=cwd or folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
        seconds = time.perf_counter() - start
        if ended.returncode:
            last = (output.read_text().strip() or "no output").splitlines()[-1]
            raise ValueError(f"python {' '.join(command[1:])} ended with: {last}")
        yield seconds, folder


def turns(repeats: int) -> int:
    """One more than is counted, as the first reads the files from disk; but a single repeat is a trial."""
    return repeats + (repeats > 1)


def start(trainer: str, repeats: int, tick: Tick) -> list[Row]:
    """Seconds to the output of ``--help``, and to the first optimiser step; ``trainer`` is a choice of conf/trainer."""
    helped, stepped = [], []
    for _ in range(turns(repeats)):
        with _trained("--help") as (seconds, _folder):
            helped.append(seconds)
        started = time.time()
        with _trained(*_SHORT, "model=resnet10", f"trainer={trainer}", _NOTES) as (_seconds, folder):
            stepped.append(float((folder / "run" / "first_step").read_text()) - started)
        tick()
    return [
        Row("python -m src.train --help", "s", helped[-repeats:], goal=1.5, bound="≤"),
        Row("start to the first optimiser step", "s", stepped[-repeats:], goal=10, bound="≤", note="digits, resnet10"),
    ]


def sweep(trainer: str, repeats: int, tick: Tick, jobs: int = 6) -> list[Row]:
    """Short jobs as one multirun, and one of them as a separate process; ``trainer`` is a choice of conf/trainer."""
    multirun: list[float] = []
    alone: list[float] = []
    seeds = ",".join(map(str, range(jobs)))
    for _ in range(turns(repeats)):
        for overrides, beyond in ((("--multirun", f"seed={seeds}", "sweep=short"), multirun), (("seed=0",), alone)):
            with _trained(*overrides, *_SHORT, "model=simplecnn", f"trainer={trainer}") as (seconds, folder):
                runs = list(folder.rglob("results.json"))
                trained = sum(json.loads(run.read_text())["seconds"] for run in runs)
            beyond.append((seconds - trained) / len(runs))
        tick()
    multirun, alone = multirun[-repeats:], alone[-repeats:]
    further = [(jobs * share - first) / (jobs - 1) for share, first in zip(multirun, alone, strict=True)]
    what = f"sweep of {jobs} short jobs"
    shared = f"its share of the one start included; in a process of its own {median(alone):.1f} s"
    return [
        Row(f"{what}: a job beyond its training", "s", multirun, goal=1, bound="≤", note=shared),
        Row(f"{what}: a further job beyond its training", "s", further, goal=1, bound="≤", note="data, test, files"),
    ]


def memory(few: DictConfig, all_of_them: DictConfig, models: Sequence[str], tick: Tick) -> list[Row]:
    """Memory for the images beyond their own size, and memory of a whole run, on the CPU.

    Args:
        few: a configuration of src.train, only for its data: the baseline with few images.
        all_of_them: likewise, with all images of the measurement.
        models: networks whose runs are measured.
    """
    with own_process(_growth, few, all_of_them) as grow:
        grown = grow(20) / _MEGABYTE
    tick()
    data = all_of_them.data
    images = (data.train_images + data.test_images) * 3 * data.image_size**2 / _MEGABYTE
    rows = [Row("memory for images and batches", "MB", [grown], "the images", [images], 1.1, "≤", "peak")]
    for model in models:
        short = ("trainer.max_epochs=1", "trainer.limit_train_batches=3", "trainer.limit_test_batches=1")
        with _trained("data=noise", f"model={model}", "trainer=cpu", *short, _NOTES) as (_, folder):
            peak = int((folder / "run" / "peak_memory").read_text()) / _MEGABYTE
        rows.append(Row(f"memory of a run: {model}", "MB", [peak], note=f"peak, batch {data.batch_size}"))
        tick()
    return rows


def _growth(few: DictConfig, all_of_them: DictConfig) -> Contender:
    """The peak growth of this process, in bytes, while images are loaded and batches are made."""

    def run(steps: int) -> float:
        sizes = []
        for cfg in (few, all_of_them):
            for _ in zip(range(steps), batches(build_data(cfg), "cpu"), strict=False):
                pass
            sizes.append(peak_memory())
        return sizes[1] - sizes[0]

    return run


def accuracy(overrides: Sequence[str], targets: Sequence[float], tick: Tick) -> list[Row]:
    """Seconds of training, including validation and compilation, to each target on the validation set.

    Args:
        overrides: of ``python -m src.train``.
        targets: accuracies, 0 to 1.
    """
    with _trained(*overrides, cwd=Path.cwd()) as (_, folder):  # where the data are
        epochs = pd.read_csv(folder / "run" / "metrics.csv")
    tick()
    reached, seconds = epochs["val/accuracy"], epochs.seconds.cumsum()
    ended = f"{reached.max():.2%} at best in {len(epochs)} epochs of {epochs.seconds.median():.1f} s"
    note = f"{', '.join(overrides)}; {ended}"
    return [
        Row(f"training to {target:.0%} validation accuracy", "s", seconds[reached >= target][:1].tolist(), note=note)
        for target in targets
    ]


def together(overrides: Sequence[str], jobs: int, tick: Tick) -> list[Row]:
    """``jobs`` small runs in parallel on one device, against the same runs in sequence."""
    rates = []
    seeds = ",".join(map(str, range(jobs)))
    for launcher in (["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"], []):
        with _trained("--multirun", *overrides, f"seed={seeds}", "sweep=short", *launcher) as (seconds, _):
            rates.append(3600 * jobs / seconds)
        tick()
    at_once, in_turn = rates
    what = f"{jobs} runs at once"
    return [Row(what, "runs an hour", [at_once], "one at a time", [in_turn], note=" ".join(overrides))]
