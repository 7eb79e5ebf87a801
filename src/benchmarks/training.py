"""Speed of training and evaluation: as shipped, by hand, and the usual way."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf
from torch.nn.functional import cross_entropy
from torch.utils.benchmark import timer

from src.benchmarks.augmentation import batches
from src.benchmarks.measure import Contender, Row, Turns, own_process, take_turns, timed
from src.benchmarks.plain import training as plain_training
from src.data.datamodule import ImageDataModule
from src.runs.folder import RunFolder
from src.training.build import build_classifier, build_data, build_run_trainer, build_trainer, quiet_lightning
from src.training.record import of_network

# The goal of a row, by its kind; some networks have their own.
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


class Alternation(L.Callback):
    """Alternates ``steps`` of the Trainer with the other contenders' turns.

    ``seconds`` is as the result of ``take_turns``, but includes the warm-up turn.
    """

    def __init__(self, steps: int, others: Mapping[str, Contender], turns: Turns) -> None:
        self.steps, self.others, self.turns = steps, others, iter(turns)
        self.seconds: dict[str, list[float]] = {name: [] for name in ("trainer", *others)}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        next(self.turns)
        self._start = timer()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % self.steps:
            return
        self.seconds["trainer"].append((timer() - self._start) / self.steps)
        for name, run in self.others.items():
            self.seconds[name].append(run())
        trainer.should_stop = next(self.turns, None) is None
        self._start = timer()


def by_hand(cfg: DictConfig, data: ImageDataModule, device: str) -> Callable[[], None]:
    """A step of a loop without Lightning, with the same optimisations: batches, memory format, kernels, and metrics
    that stay on the device."""
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

    return step


def mixing(cfg: DictConfig, plain: DictConfig, name: str, device: str, turns: Turns) -> list[Row]:
    """What the mixing of ``cfg.aug`` adds to a batch, against a training step of ``plain``."""
    data = build_data(cfg)
    images, labels, positions = data.train.__getitems__(range(data.batch_size))
    images, labels = images.to(device), labels.to(device)
    mix = timed(lambda: data.mix(images, labels, positions, epoch=0), 100)
    step = timed(by_hand(plain, build_data(plain), device), 10)
    seconds = take_turns({"mix": mix, "step": step}, turns)
    ours, against = ([1000 * each for each in values] for values in seconds.values())
    note = f"batch {data.batch_size} on {device}"
    return [Row(f"mixing: {name}", "ms", ours, "a step of simplecnn", against, 0.03, "≤", note)]


def choices(cfgs: Mapping[str, DictConfig], name: str, steps: int, device: str, turns: Turns) -> list[Row]:
    """Speed of settings that are not the default, and the number of steps after which compilation pays off.

    Args:
        cfgs: configurations of src.train by the overrides that they differ in, the default first.
        name: of the network.
        steps: of each in a turn.
    """
    torch.compiler.config.force_disable_caches = True  # as for a new network
    default, *others = cfgs
    batch = cfgs[default].data.batch_size
    data = build_data(cfgs[default])
    hands = {overrides: by_hand(cfg, copy(data), device) for overrides, cfg in cfgs.items()}
    first = {overrides: timed(step, 1)() for overrides, step in hands.items()}
    seconds = take_turns({overrides: timed(step, steps) for overrides, step in hands.items()}, turns)
    speeds = {overrides: [batch / each for each in values] for overrides, values in seconds.items()}
    rows = []
    for overrides in others:
        note = f"batch {batch}"
        if cfgs[overrides].compile:
            note += f"; {payback(first[overrides], seconds[overrides], seconds[default])}"
        rows.append(Row(f"{overrides}: {name}", "images/s", speeds[overrides], default, speeds[default], note=note))
    return rows


def payback(first: float, seconds: Sequence[float], others: Sequence[float]) -> str:
    """The seconds of a first step, which compiles, and when the seconds of the later ones, against those of others that
    were not compiled, make up for it, in words."""
    gained = median(others) - median(seconds)
    back = f"won back after {first / gained:,.0f} steps" if gained > 0 else "never won back"
    return f"the first step takes {first:.0f} s, {back}"


def evaluation(cfg: DictConfig, data: ImageDataModule, images: int) -> Contender:
    """``Trainer.test`` on some of the test images; only whole batches, so that the count of images is exact."""
    batches, rest = divmod(images, data.eval_batch_size)
    if rest:
        raise ValueError(f"{images} images are no whole number of batches of {data.eval_batch_size}.")
    settings = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = build_trainer(cfg, limit_test_batches=batches, **settings)
    classifier = build_classifier(cfg, data)
    return timed(lambda: trainer.test(classifier, datamodule=data, verbose=False), 1)


def multiplication(device: str) -> Contender:
    """Products of two float32 matrices of 2048 x 2048: the arithmetic speed of this machine."""
    a, b, out = (torch.randn(MATMUL, MATMUL, device=device) for _ in range(3))
    return timed(lambda: torch.mm(a, b, out=out), MULTIPLICATIONS)


def pace(device: str) -> float:
    """Seconds that this machine takes for what takes a second on the machine of README.md: a first guess, for the CPU
    from the matrix product alone."""
    product = multiplication("cpu")
    product()  # warm up
    return product() / 0.046 if device == "cpu" else 1.0


@quiet_lightning()
def measure(cfg: DictConfig, name: str, size: DictConfig, device: str, turns: Turns) -> list[Row]:
    """Every row of one network.

    Args:
        cfg: a configuration of src.train.
        name: of its network.
        size: its ``steps`` in a turn, and the images ``evaluated``, see conf/benchmark.
    """
    data = build_data(cfg)
    source = batches(copy(data), device)
    batch, steps = cfg.data.batch_size, size.steps
    model = OmegaConf.to_container(cfg.model, resolve=True)
    classifier = build_classifier(cfg, data)
    with own_process(plain_training, model, batch, device, steps) as plain, TemporaryDirectory() as folder:
        # Shallow copies: the images are shared, but each has its own Trainer.
        others = {
            "plain": plain,
            "hand": timed(by_hand(cfg, copy(data), device), steps),
            "input": timed(lambda: next(source), INPUT_BATCHES),
            "evaluation": evaluation(cfg, copy(data), size.evaluated),
            "matmul": multiplication(device),
        }
        alternation = Alternation(steps, others, turns)
        settings = cfg.copy()
        settings.trainer.max_epochs = 1
        run = RunFolder(Path(folder))
        run.start_record()
        trainer, _ = build_run_trainer(settings, run, validates=False)
        trainer.callbacks.append(alternation)  # type: ignore[attr-defined]
        trainer.fit(classifier, datamodule=data)
    times = {who: [1000 * each for each in values[1:]] for who, values in alternation.seconds.items()}
    work = 3 * of_network(classifier.network, len(data.classes), data.image_size)["flops_per_image"]

    def speeds(who: str, amount: float) -> list[float]:
        return [1000 * amount / each for each in times[who]]

    goals = _GOALS[device]["all"] | _GOALS[device].get(name, {})
    ours, note = speeds("trainer", batch), f"batch {batch}, {steps} step{'s' * (steps > 1)} a repeat"
    evaluated, of_tests = speeds("evaluation", size.evaluated), f"{size.evaluated} images"
    ms, hand, cropping = times["trainer"], times["hand"], f"crop, flip, normalise on {device}"
    gflops, product = speeds("trainer", batch * work / 1e9), speeds("matmul", 2 * MATMUL**3 / 1e9)
    rows = [
        Row("training", "images/s", ours, "plain loop", speeds("plain", batch), note=note),
        Row("Trainer's step", "ms", ms, "the same by hand", hand, bound="≤", note=note),
        Row("evaluation", "images/s", evaluated, "training it", ours, note=of_tests),
        Row("input's share", "ms", times["input"], "Trainer's step", ms, bound="≤", note=cropping),
        Row("arithmetic", "GFLOP/s", gflops, f"matrix product {MATMUL}³", product),
        Row("throughput", "images/s", ours, note=note),
    ]
    judged = [row._replace(work=f"{row.work}: {name}", goal=goals.get(row.work)) for row in rows]
    return [row for row in judged if row.against or row.goal is not None]
