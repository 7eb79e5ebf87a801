"""Times that a user waits: start of commands, sweeps, a run up to a target accuracy; and memory use."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
from omegaconf import DictConfig
from PIL import Image

from src.benchmarks.augmentation import batches
from src.benchmarks.measure import Contender, Row, Turns, own_process, take_turns, timed
from src.benchmarks.plain import predicting
from src.inference.predict import predict
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
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": path}
        start = time.perf_counter()
        ended = subprocess.run(command, cwd=cwd or folder, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if ended.returncode:
            last = ((ended.stderr or ended.stdout).strip() or "no output").splitlines()[-1]
            raise ValueError(f"python {' '.join(command[1:])} ended with: {last}")
        yield seconds, folder


def start(trainer: str, turns: Turns) -> list[Row]:
    """Seconds to the output of ``--help``, and to the first optimiser step, also beyond an import of Lightning;
    ``trainer`` is a choice of conf/trainer."""

    def first_step() -> float:
        started = time.time()
        with _trained(*_SHORT, "model=resnet10", f"trainer={trainer}", _NOTES) as (_, folder):
            return float((folder / "run" / "first_step").read_text()) - started

    imports = "import lightning"
    helping, importing = (
        timed(partial(subprocess.run, [sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True), 1)
        for arguments in (("-m", "src.train", "--help"), ("-c", imports))
    )
    seconds = take_turns({"help": helping, "imports": importing, "step": first_step}, turns)
    beyond = [step - least for step, least in zip(seconds["step"], seconds["imports"], strict=True)]
    note = f"python -c '{imports}' takes {median(seconds['imports']):.2f} s"
    return [
        Row("python -m src.train --help", "s", seconds["help"], goal=1.5, bound="≤"),
        Row("start to the first optimiser step", "s", seconds["step"], goal=10, bound="≤", note="digits, resnet10"),
        Row(f"the same beyond {imports}", "s", beyond, goal=1, bound="≤", note=note),
    ]


def sweep(trainer: str, turns: Turns, jobs: int = 6) -> list[Row]:
    """Short jobs as one multirun, and one of them as a separate process; ``trainer`` is a choice of conf/trainer."""

    def beyond_training(*overrides: str) -> float:
        with _trained(*overrides, *_SHORT, "model=simplecnn", f"trainer={trainer}") as (seconds, folder):
            runs = list(folder.rglob("results.json"))
            trained = sum(json.loads(run.read_text())["seconds"] for run in runs)
        return (seconds - trained) / len(runs)

    seeds = ",".join(map(str, range(jobs)))
    multirun = partial(beyond_training, "--multirun", f"seed={seeds}", "sweep=short")
    shares, alone = take_turns({"multirun": multirun, "alone": partial(beyond_training, "seed=0")}, turns).values()
    further = [(jobs * share - first) / (jobs - 1) for share, first in zip(shares, alone, strict=True)]
    what = f"sweep of {jobs} short jobs"
    shared = f"its share of the one start included; in a process of its own {median(alone):.1f} s"
    return [
        Row(f"{what}: a job beyond its training", "s", shares, goal=1, bound="≤", note=shared),
        Row(f"{what}: a further job beyond its training", "s", further, goal=1, bound="≤", note="data, test, files"),
    ]


def prediction(cfg: DictConfig, size: tuple[int, int], photos: int, device: str, turns: Turns) -> list[Row]:
    """JPEG files through ``python -m src.predict``, start aside, against loops over Pillow and torch.

    Args:
        cfg: a configuration of src.predict.
        size: width and height of the images, in pixels.
        photos: how many.
    """
    with TemporaryDirectory() as name, _trained(*_SHORT, "model=resnet20", "trainer=cpu") as (_, trained):
        run, folder = trained / "run", Path(name)
        _take_photos(folder, size, photos)
        cfg.ckpt, cfg.images = str(run), name

        def ours() -> None:
            with redirect_stdout(StringIO()):
                predict(cfg)

        plain = partial(own_process, predicting, run, folder, device)
        with plain(1) as single, plain(64) as many:
            seconds = take_turns({"ours": timed(ours, 1), "single": single, "many": many}, turns)
    speeds = {who: [photos / each for each in values] for who, values in seconds.items()}
    first = Row(f"predict: JPEG of {size[0]} x {size[1]}", "images/s", speeds["ours"], note=f"resnet20, {photos} files")
    others = {"single": ("Pillow and torch, one at a time", 2), "many": ("Pillow and torch, batches of 64", None)}
    return [first._replace(other=other, against=speeds[who], goal=goal) for who, (other, goal) in others.items()]


def _take_photos(folder: Path, size: tuple[int, int], count: int) -> None:
    """A gradient with noise, which compresses about as a photo does, ``count`` times."""
    ramp = np.add.outer(np.linspace(40, 140, size[1]), np.linspace(0, 80, size[0]))
    pixels = ramp[..., None] + np.random.default_rng(0).normal(0, 8, (*ramp.shape, 3))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    for i in range(count):
        image.save(folder / f"{i}.jpg", quality=90)


def memory(few: DictConfig, all_of_them: DictConfig, models: Sequence[str]) -> list[Row]:
    """Memory for the images beyond their own size, and memory of whole runs, on the CPU.

    Args:
        few: a configuration of src.train, only for its data: the baseline with few images.
        all_of_them: likewise, with all images of the measurement.
        models: networks whose runs are measured.
    """
    with own_process(_growth, few, all_of_them) as grow:
        grown = grow()
    data = all_of_them.data
    images = (data.train_images + data.test_images) * 3 * data.image_size**2 / _MEGABYTE
    short = ("trainer.max_epochs=1", "trainer.limit_train_batches=3", "trainer.limit_test_batches=1")
    runs: dict[str, tuple[str, ...]] = {"simplecnn on digits": (*_SHORT, "model=simplecnn")}
    runs |= {model: ("data=noise", f"model={model}", *short) for model in models}
    rows = [Row("memory for images and batches", "MB", [grown], "the images", [images], 1.1, "≤", "peak")]
    for name, overrides in runs.items():
        with _trained(*overrides, "trainer=cpu", _NOTES) as (_, folder):
            peak = int((folder / "run" / "peak_memory").read_text()) / _MEGABYTE
        goal, batch = (None, data.batch_size) if name in models else (700, 64)
        rows.append(Row(f"memory of a run: {name}", "MB", [peak], goal=goal, bound="≤", note=f"peak, batch {batch}"))
    return rows


def _growth(few: DictConfig, all_of_them: DictConfig) -> Contender:
    """The peak growth of this process, in megabytes, while images are loaded and batches are made."""

    def run() -> float:
        sizes = []
        for cfg in (few, all_of_them):
            for _ in zip(range(20), batches(build_data(cfg), "cpu"), strict=False):
                pass
            sizes.append(peak_memory())
        return (sizes[1] - sizes[0]) / _MEGABYTE

    return run


def accuracy(overrides: Sequence[str], targets: Sequence[float]) -> list[Row]:
    """Seconds of training, including validation and compilation, to each target on the validation set.

    Args:
        overrides: of ``python -m src.train``.
        targets: accuracies, 0 to 1.
    """
    with _trained(*overrides, cwd=Path.cwd()) as (_, folder):  # where the data are
        epochs = pd.read_csv(folder / "run" / "metrics.csv")
    reached, seconds = epochs["val/accuracy"], epochs.seconds.cumsum()
    ended = f"{reached.max():.2%} at best in {len(epochs)} epochs of {epochs.seconds.median():.1f} s"
    note = f"{', '.join(overrides)}; {ended}"
    return [
        Row(f"training to {target:.0%} validation accuracy", "s", seconds[reached >= target][:1].tolist(), note=note)
        for target in targets
    ]


def together(overrides: Sequence[str], jobs: int) -> list[Row]:
    """``jobs`` small runs in parallel on one device, against the same runs in sequence."""
    rates = []
    seeds = ",".join(map(str, range(jobs)))
    for launcher in (["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"], []):
        with _trained("--multirun", *overrides, f"seed={seeds}", "sweep=short", *launcher) as (seconds, _):
            rates.append([3600 * jobs / seconds])
    return [Row(f"{jobs} runs at once", "runs an hour", rates[0], "one at a time", rates[1], note=" ".join(overrides))]
