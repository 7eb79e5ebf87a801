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

from src.benchmarks.measure import Row

ROOT = Path(__file__).parents[2]
# Everything a run does, on real images, in one step.
_SHORT = ("data=digits", "data.train_size=64", "data.batch_size=64", "trainer.max_epochs=1")
_MEGABYTE = 1e6


class FirstStep(L.Callback):
    """Leaves word in the run folder of when the first optimiser step was done."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == 1:
            Path(trainer.default_root_dir, "first_step").write_text(str(time.time()))


def _run(folder: Path, *arguments: str, cwd: Path | None = None) -> tuple[float, int]:
    """``python -m src.train``, writing into ``folder``; seconds, and peak memory in bytes."""
    command = [sys.executable, "-m", "src.train", *arguments]
    output = folder / "output.txt"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    with output.open("w") as file:
        process = subprocess.Popen(command, cwd=cwd or folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = (output.read_text().strip() or "no output").splitlines()[-1]
        raise RuntimeError(f"{' '.join(command[1:])} failed: {last}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


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
            of_help, _ = _run(Path(folder), "--help")
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
                seconds, _ = _run(Path(name), *overrides, *short)
                runs = list(Path(name).glob("logs/train/**/results.json"))
                trained = sum(json.loads(run.read_text())["seconds"] for run in runs)
            if turn > 0:
                beyond.append((seconds - trained) / len(runs))
        tick()
    return [
        Row(
            f"sweep of {jobs} short jobs: a job beyond its training",
            "s",
            multirun,
            goal=1,
            bound="≤",
            note=f"its share of the start, data, test, files; in a process of its own {median(alone):.1f} s",
        ),
    ]


def memory(trainer: str, tick: Callable[[], None]) -> list[Row]:
    """How much a run on CIFAR-10's 60,000 images, less that of the same run on a few."""
    peaks = {}
    for images in (1_000, 50_000):
        sizes = (f"data.train_images={images}", f"data.test_images={images // 5}")
        limits = ("trainer.max_epochs=1", "trainer.limit_train_batches=5", "trainer.limit_test_batches=1")
        with tempfile.TemporaryDirectory() as folder:
            _, peaks[images] = _run(
                Path(folder), "data=noise", "model=simplecnn", f"trainer={trainer}", *sizes, *limits
            )
        tick()
    few, all_of_them = (peak / _MEGABYTE for peak in peaks.values())
    data_set = (50_000 + 10_000 - 1_000 - 200) * 3 * 32 * 32 / _MEGABYTE
    return [
        Row(
            "peak memory that the data set adds",
            "MB",
            [all_of_them - few],
            "its images",
            [data_set],
            goal=1.1,
            bound="≤",
            note=f"simplecnn, batch 128: {all_of_them:.0f} MB in all, of which {few:.0f} MB without the data set",
        )
    ]


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
            seconds, _ = _run(Path(folder), "--multirun", *overrides, f"seed={seeds}", "sweep=short", *launcher)
        rates.append(3600 * jobs / seconds)
        tick()
    at_once, in_turn = rates
    return [
        Row(f"{jobs} runs at once", "runs an hour", [at_once], "one at a time", [in_turn], note=" ".join(overrides))
    ]
