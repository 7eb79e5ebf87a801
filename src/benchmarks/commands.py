"""What a user waits for: commands that start, sweeps, a run until it is good enough; and the memory it takes."""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import numpy as np
from omegaconf import DictConfig

from src.benchmarks.measure import Contender, OwnProcess, Row, peak_memory

ROOT = Path(__file__).parents[2]
# Everything a run does, on real images, in one step.
_SHORT = ("data=digits", "data.train_size=64", "data.batch_size=64", "trainer.max_epochs=1")
_MEGABYTE = 1e6


class FirstStep(L.Callback):
    """Leaves word in the run folder of when the first optimiser step was done."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == 1:
            Path(trainer.default_root_dir, "first_step").write_text(str(time.time()))


class PeakMemory(L.Callback):
    """Leaves word in the run folder of how large the process became, in bytes."""

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        Path(trainer.default_root_dir, "peak_memory").write_text(str(peak_memory()))


def _run(folder: Path, *arguments: str, cwd: Path | None = None) -> float:
    """Seconds that ``python -m src.train`` takes, writing into ``folder``."""
    command = [sys.executable, "-m", "src.train", *arguments]
    output = folder / "output.txt"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    with output.open("w") as file:
        ended = subprocess.run(command, cwd=cwd or folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
    seconds = time.perf_counter() - start
    if ended.returncode:
        last = (output.read_text().strip() or "no output").splitlines()[-1]
        raise ValueError(f"python {' '.join(command[1:])} ended with: {last}")
    return seconds


def start(trainer: str, repeats: int, tick: Callable[[], None]) -> list[Row]:
    """Seconds to the answer of ``--help``, and to the first optimiser step.

    Args:
        trainer: a choice of conf/trainer.
        repeats: how many count.
        tick: called ``repeats + 1`` times.
    """
    helped, stepped = [], []
    for turn in range(repeats + 1):
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder, "run")
            of_help = _run(Path(folder), "--help")
            started = time.time()
            _run(
                Path(folder),
                *_SHORT,
                "model=resnet10",
                f"trainer={trainer}",
                f"hydra.run.dir={run}",
                "+callbacks.first_step._target_=src.benchmarks.commands.FirstStep",
            )
            if turn > 0:  # the first one reads the files from disk
                helped.append(of_help)
                stepped.append(float((run / "first_step").read_text()) - started)
        tick()
    return [
        Row("python -m src.train --help", "s", helped, goal=1.5, bound="≤"),
        Row("start to the first optimiser step", "s", stepped, goal=10, bound="≤", note="digits, resnet10"),
    ]


def sweep(trainer: str, repeats: int, tick: Callable[[], None], jobs: int = 6) -> list[Row]:
    """Short jobs as one multirun, and one of them as a process of its own.

    Args:
        trainer: a choice of conf/trainer.
        repeats: how many count.
        tick: called ``repeats + 1`` times.
        jobs: of the multirun.
    """
    short = (*_SHORT, "model=simplecnn", f"trainer={trainer}")
    seeds = ",".join(map(str, range(jobs)))
    multirun: list[float] = []
    alone: list[float] = []
    for turn in range(repeats + 1):
        for overrides, beyond in ((("--multirun", f"seed={seeds}", "sweep=short"), multirun), (("seed=0",), alone)):
            with tempfile.TemporaryDirectory() as name:
                seconds = _run(Path(name), *overrides, *short)
                runs = list(Path(name).glob("logs/train/**/results.json"))
                trained = sum(json.loads(run.read_text())["seconds"] for run in runs)
            if turn > 0:
                beyond.append((seconds - trained) / len(runs))
        tick()
    further = [(jobs * share - first) / (jobs - 1) for share, first in zip(multirun, alone, strict=True)]
    what = f"sweep of {jobs} short jobs"
    shared = f"its share of the one start included; in a process of its own {median(alone):.1f} s"
    return [
        Row(f"{what}: a job beyond its training", "s", multirun, goal=1, bound="≤", note=shared),
        Row(f"{what}: a further job beyond its training", "s", further, goal=1, bound="≤", note="data, test, files"),
    ]


def memory(few: DictConfig, all_of_them: DictConfig, models: Sequence[str], tick: Callable[[], None]) -> list[Row]:
    """What the images take beyond themselves, and how much a whole run takes, on the CPU.

    Args:
        few: a configuration of src.train, of which only the data are used: what is needed to handle any images.
        all_of_them: likewise, with as many images as are to be judged.
        models: networks whose runs are looked at.
        tick: called after each process.
    """
    with OwnProcess(_growth, few, all_of_them) as grow:
        grown = grow(20) / _MEGABYTE
    tick()
    data = all_of_them.data
    images = (data.train_images + data.test_images) * 3 * data.image_size**2 / _MEGABYTE
    rows = [Row("memory for images and batches", "MB", [grown], "the images", [images], 1.1, "≤", "peak")]
    for model in models:
        with tempfile.TemporaryDirectory() as name:
            run = Path(name, "run")
            _run(
                Path(name),
                *("data=noise", f"model={model}", "trainer=cpu", "trainer.max_epochs=1", f"hydra.run.dir={run}"),
                *("trainer.limit_train_batches=3", "trainer.limit_test_batches=1"),
                "+callbacks.peak_memory._target_=src.benchmarks.commands.PeakMemory",
            )
            peak = int((run / "peak_memory").read_text()) / _MEGABYTE
        rows.append(Row(f"memory of a run: {model}", "MB", [peak], note=f"peak, batch {data.batch_size}"))
        tick()
    return rows


def _growth(few: DictConfig, all_of_them: DictConfig) -> Contender:
    """By how many bytes this process grows at most while images are loaded and batches are made of them."""
    from src.benchmarks.augmentation import batches
    from src.training.build import build_data

    def run(steps: int) -> float:
        sizes = []
        for cfg in (few, all_of_them):
            for _ in zip(range(steps), batches(build_data(cfg), "cpu"), strict=False):
                pass
            sizes.append(peak_memory())
        return sizes[1] - sizes[0]

    return run


def accuracy(overrides: Sequence[str], targets: Sequence[float], tick: Callable[[], None]) -> list[Row]:
    """Seconds of training, validation and compilation included, to each target on the validation set.

    Args:
        overrides: of ``python -m src.train``.
        targets: accuracies, 0 to 1.
        tick: called when the run has ended.
    """
    with tempfile.TemporaryDirectory() as name:
        run = Path(name, "run")
        _run(Path(name), *overrides, f"hydra.run.dir={run}", cwd=Path.cwd())  # where the data are
        with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
            epochs = list(csv.DictReader(file))
    tick()
    seconds = list(accumulate(float(epoch["seconds"]) for epoch in epochs))
    reached = [float(epoch["val/accuracy"]) for epoch in epochs]
    ended = f"{max(reached):.2%} at best in {len(epochs)} epochs of {median(np.diff(seconds, prepend=0)):.1f} s"
    rows = []
    for target in targets:
        first = next((i for i, value in enumerate(reached) if value >= target), None)
        note = f"{', '.join(overrides)}; {ended}"
        times = [] if first is None else [seconds[first]]
        rows.append(Row(f"training to {target:.0%} validation accuracy", "s", times, note=note))
    return rows


def together(overrides: Sequence[str], jobs: int, tick: Callable[[], None]) -> list[Row]:
    """Small runs side by side on one device against one after the other.

    Args:
        overrides: of ``python -m src.train``.
        jobs: how many runs.
        tick: called after each of the two sweeps.
    """
    rates = []
    seeds = ",".join(map(str, range(jobs)))
    for launcher in (["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"], []):
        with tempfile.TemporaryDirectory() as folder:
            seconds = _run(Path(folder), "--multirun", *overrides, f"seed={seeds}", "sweep=short", *launcher)
        rates.append(3600 * jobs / seconds)
        tick()
    at_once, in_turn = rates
    return [
        Row(f"{jobs} runs at once", "runs an hour", [at_once], "one at a time", [in_turn], note=" ".join(overrides))
    ]
