"""How fast networks are trained and evaluated: as shipped, by hand, and as most repositories do it."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf
from torch.nn.functional import cross_entropy

from src.benchmarks.augmentation import batches
from src.benchmarks.augmentation import contender as input_contender
from src.benchmarks.measure import Contender, OwnProcess, Row, seconds_of, take_turns, wait_for
from src.benchmarks.plain import training as plain_training
from src.data.datamodule import ImageDataModule
from src.runs.folder import RunFolder
from src.training.build import build_classifier, build_data, build_run_trainer, build_trainer, quiet_lightning
from src.training.record import of_network

# What a row must reach, by its kind; for some networks another figure.
_GOALS: dict[str, dict[str, dict[str, float]]] = {
    "cpu": {
        "all": {"training": 1.4, "Trainer's step": 1.03, "evaluation": 3.0},
        "simplecnn": {"Trainer's step": 1.10},
        "resnet50_cifar_stem": {"training": 1.5, "arithmetic": 0.7},
    },
    "cuda": {
        "all": {"training": 5.0, "input's share": 0.03},
        "resnet10": {"throughput": 60_000},
        "resnet50_cifar_stem": {"throughput": 10_000},
    },
}
MATMUL = 2048
MULTIPLICATIONS, INPUT_BATCHES = 3, 20  # a turn


class Turns(L.Callback):
    """Lets the Trainer do some steps, then the others theirs, and so on; a first turn does not count.

    Args:
        steps: of the Trainer in a turn.
        others: by name: a contender and its steps in a turn.
        repeats: how many turns count.
        tick: called after every turn of all.
        device: of the Trainer.
    """

    def __init__(
        self,
        steps: int,
        others: dict[str, tuple[Contender, int]],
        repeats: int,
        tick: Callable[[], None],
        device: str,
    ) -> None:
        self.steps, self.others, self.tick, self.device = steps, others, tick, device
        self.batches = steps * (repeats + 1)
        self.rates: dict[str, list[float]] = {name: [] for name in ("trainer", *others)}
        self._start = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % self.steps:
            return
        wait_for(self.device)
        rates = {"trainer": self.steps / (time.perf_counter() - self._start)}
        for name, (run, steps) in self.others.items():
            rates[name] = steps / run(steps)
        if batch_idx + 1 > self.steps:
            for name, rate in rates.items():
                self.rates[name].append(rate)
        self.tick()
        wait_for(self.device)
        self._start = time.perf_counter()


def by_hand(cfg: DictConfig, data: ImageDataModule, device: str) -> Contender:
    """A loop without Lightning, with all that makes ours fast: the same batches, memory format, kernels, metrics that
    stay on the device."""
    classifier = build_classifier(cfg, data).to(device)
    network = classifier.network.train()
    optimizer = classifier.optimizer(network)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    source = batches(data, device)
    total, right = torch.zeros((), device=device), torch.zeros((), device=device)
    precision = torch.autocast(device, torch.bfloat16, enabled=cfg.trainer.precision == "bf16-mixed")

    def step() -> None:
        nonlocal total, right
        images, labels = next(source)
        with precision:
            logits = classifier(images)
            loss = cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.detach() * len(labels)
        right += (logits.detach().argmax(1) == labels).sum()

    def run(steps: int) -> float:
        def work() -> None:
            for _ in range(steps):
                step()

        return seconds_of(work, device)

    return run


def choices(
    cfgs: Mapping[str, DictConfig], name: str, tick: Callable[[], None], *, steps: int, repeats: int, device: str
) -> list[Row]:
    """What settings that are not the default are worth, and when the time that compiling takes is won back.

    Args:
        cfgs: configurations of src.train by the overrides that they differ in, the default first.
        name: of the network.
        tick: called after every turn, ``repeats + 1`` times.
        steps: of each in a turn.
        repeats: how many turns count.
        device: ``"cpu"`` or ``"cuda"``.
    """
    torch.compiler.config.force_disable_caches = True  # as on the day the network is new
    default, *others = cfgs
    batch = cfgs[default].data.batch_size
    data = build_data(cfgs[default])
    contenders = {overrides: by_hand(cfg, copy(data), device) for overrides, cfg in cfgs.items()}
    first = {overrides: run(1) for overrides, run in contenders.items()}
    rates = take_turns(contenders, dict.fromkeys(contenders, steps), repeats, tick)
    rows = []
    for overrides in others:
        note = f"batch {batch}"
        if cfgs[overrides].compile:
            note += f"; {payback(first[overrides], rates[overrides], rates[default])}"
        speeds, others_speeds = ([batch * rate for rate in rates[which]] for which in (overrides, default))
        rows.append(Row(f"{overrides}: {name}", "images/s", speeds, default, others_speeds, note=note))
    return rows


def payback(first: float, rates: Sequence[float], others: Sequence[float]) -> str:
    """After how many steps a slow start is made up for by faster steps, in words.

    Args:
        first: seconds of the first step, which compiles.
        rates: steps a second, after that.
        others: of what does not compile.
    """
    gained = 1 / median(others) - 1 / median(rates)
    back = f"won back after {first / gained:,.0f} steps" if gained > 0 else "never won back"
    return f"the first step takes {first:.0f} s, {back}"


def evaluation(cfg: DictConfig, data: ImageDataModule, images: int) -> Contender:
    """``Trainer.test``, on some of the test images: whole batches, to count no image that was not asked for."""
    settings = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    batches, rest = divmod(images, data.eval_batch_size)
    if rest:
        raise ValueError(f"{images} images are no whole number of batches of {data.eval_batch_size}.")
    trainer = build_trainer(cfg, limit_test_batches=batches, **settings)
    classifier = build_classifier(cfg, data)

    def run(steps: int) -> float:
        start = time.perf_counter()
        trainer.test(classifier, datamodule=data, verbose=False)
        return time.perf_counter() - start

    return run


def multiplication(device: str) -> Contender:
    """Products of two float32 matrices of 2048 x 2048: what this machine's arithmetic can do."""
    a, b = torch.randn(MATMUL, MATMUL, device=device), torch.randn(MATMUL, MATMUL, device=device)
    out = torch.empty_like(a)

    def run(steps: int) -> float:
        def work() -> None:
            for _ in range(steps):
                torch.mm(a, b, out=out)

        return seconds_of(work, device)

    return run


@quiet_lightning()
def measure(
    cfg: DictConfig,
    name: str,
    tick: Callable[[], None],
    *,
    steps: int,
    evaluated: int,
    repeats: int,
    device: str,
) -> list[Row]:
    """Every row of one network.

    Args:
        cfg: a configuration of src.train.
        name: of its network.
        tick: called after every turn, ``repeats + 1`` times.
        steps: of training in a turn.
        evaluated: images of an evaluation.
        repeats: how many turns count.
        device: ``"cpu"`` or ``"cuda"``.
    """
    data = build_data(cfg)
    batch = cfg.data.batch_size
    model = OmegaConf.to_container(cfg.model, resolve=True)
    classifier = build_classifier(cfg, data)
    with (
        OwnProcess(plain_training, model, batch, device) as plain,
        tempfile.TemporaryDirectory() as folder,
    ):
        # Shallow copies: one set of images, but a Trainer of its own for each.
        others = {
            "plain": (plain, steps),
            "hand": (by_hand(cfg, copy(data), device), steps),
            "input": (input_contender(copy(data), device), INPUT_BATCHES),
            "evaluation": (evaluation(cfg, copy(data), evaluated), 1),
            "matmul": (multiplication(device), MULTIPLICATIONS),
        }
        turns = Turns(steps, others, repeats, tick, device)
        settings = cfg.copy()
        settings.trainer.update(limit_train_batches=turns.batches, max_epochs=1)
        trainer, _ = build_run_trainer(settings, RunFolder(Path(folder)), validates=False)
        trainer.callbacks.append(turns)  # type: ignore[attr-defined]
        trainer.fit(classifier, datamodule=data)

    def images(who: str, count: int = batch) -> list[float]:
        return [count * rate for rate in turns.rates[who]]

    size = f"batch {batch}, {steps} step{'s' * (steps > 1)} a repeat"
    work = 3 * of_network(classifier.network, data.image_size)["flops_per_image"]
    gflops = [work * rate / 1e9 for rate in images("trainer")]
    product = [2 * MATMUL**3 * rate / 1e9 for rate in turns.rates["matmul"]]
    rows = [
        Row(f"training: {name}", "images/s", images("trainer"), "plain loop", images("plain"), note=size),
        Row(
            f"Trainer's step: {name}",
            "ms",
            [1000 / rate for rate in turns.rates["trainer"]],
            "the same by hand",
            [1000 / rate for rate in turns.rates["hand"]],
            bound="≤",
            note=size,
        ),
        Row(
            f"evaluation: {name}",
            "images/s",
            images("evaluation", evaluated),
            "training it",
            images("trainer"),
            note=f"{evaluated} images",
        ),
        Row(
            f"input's share: {name}",
            "ms",
            [1000 / rate for rate in turns.rates["input"]],
            "Trainer's step",
            [1000 / rate for rate in turns.rates["trainer"]],
            bound="≤",
            note=f"crop, flip, normalise on {device}",
        ),
        Row(f"arithmetic: {name}", "GFLOP/s", gflops, f"matrix product {MATMUL}³", product),
        Row(f"throughput: {name}", "images/s", images("trainer"), note=size),
    ]
    goals = _GOALS[device]["all"] | _GOALS[device].get(name, {})
    judged = [replace(row, goal=goals.get(row.work.partition(":")[0])) for row in rows]
    return [row for row in judged if row.against or row.goal is not None]
