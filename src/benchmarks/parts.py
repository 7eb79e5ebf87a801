"""The measurements, and their configurations of src.train."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import hydra
import torch
from omegaconf import DictConfig

from src.benchmarks import augmentation, commands, training
from src.benchmarks.measure import Row, Tick

# The rows, each with its default devices; conf/benchmark or the user may change them.
ROWS = {
    "augmentation": ("cpu",),
    "policies": ("cpu",),
    "mixing": ("cpu", "cuda"),
    "trivialaugment": ("cuda",),
    "training": ("cpu", "cuda"),
    "choices": ("cpu",),
    "start": ("cpu",),
    "sweep": ("cpu",),
    "memory": ("cpu",),
    "accuracy": ("cuda",),
    "together": ("cuda",),
}


class Part(NamedTuple):
    """Rows that are measured together."""

    what: str  # for the progress bar
    turns: int  # how often ``measure`` calls its ``tick``: after every turn of all contenders
    measure: Callable[[Tick], list[Row]]


def parts(cfg: DictConfig) -> list[Part]:
    """The parts that ``cfg`` (conf/benchmark.yaml) requests.

    Raises:
        ValueError: a setting is out of its range.
    """
    _check(cfg)
    rows = cfg.rows or [row for row, devices in ROWS.items() if cfg.device in devices]
    return [part for row in rows for part in _parts(row, cfg)]


def compose(*overrides: str) -> DictConfig:
    """The configuration that ``python -m src.train`` would have."""
    return hydra.compose("train", list(overrides))


def _check(cfg: DictConfig) -> None:
    if cfg.device not in ("cpu", "cuda"):
        raise ValueError(f"device is {cfg.device!r}; expected cpu or cuda.")
    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but torch finds no CUDA GPU here; use device=cpu.")
    if not isinstance(cfg.repeats, int) or cfg.repeats < 1:
        raise ValueError(f"repeats is {cfg.repeats!r}; expected a whole number, 1 or more.")
    for name, choices in (("rows", ROWS), ("models", cfg.training[cfg.device])):
        if isinstance(cfg[name], str):
            cfg[name] = [cfg[name]]
        if cfg[name] is not None and not cfg[name]:
            raise ValueError(f"{name} is empty; expected some of {', '.join(choices)}.")
        for choice in cfg[name] or ():
            if choice not in choices:
                raise ValueError(f"{name} has {choice!r}; expected some of {', '.join(choices)}.")


def _parts(row: str, cfg: DictConfig) -> Iterator[Part]:
    device, repeats = cfg.device, cfg.repeats
    turns = repeats + 1  # the first one does not count
    trainer = {"cpu": "cpu", "cuda": "gpu"}[device]
    noise = (f"trainer={trainer}", "data=noise")
    match row:
        case "augmentation" | "policies":
            for name, pipeline, other, goal in augmentation.COMPARISONS[row]:
                config = compose(f"aug={name}", "data=noise", "trainer=cpu")
                measure = partial(augmentation.against_torchvision, config, name, pipeline, other, goal, repeats)
                yield Part(f"augmentation: {name}", turns, measure)
        case "mixing":
            for name in ("mixup", "cutmix", "mixup_cutmix"):
                config = compose(f"aug={name}", "model=simplecnn", *noise)
                plain = compose("model=simplecnn", *noise)
                yield Part(f"mixing: {name}", turns, partial(training.mixing, config, plain, name, device, repeats))
        case "trivialaugment":
            config = compose("aug=trivialaugment", "data.batch_size=500", *noise)
            yield Part(row, turns, partial(augmentation.alone, config, device, repeats))
        case "training":
            for name in cfg.models or cfg.training[device]:
                size = cfg.training[device][name]
                config = compose(
                    *(f"model={name}", f"compile={device == 'cuda'}", *noise, f"data.batch_size={size.batch_size}"),
                    f"data.train_images={max(50_000, size.batch_size * size.steps * turns)}",
                    f"data.eval_batch_size={min(500, size.evaluated)}",
                )
                yield Part(name, turns, partial(training.measure, config, name, size, repeats, device))
        case "choices":
            for name, size in cfg.choices[device].networks.items():
                if name in (cfg.models or [name]):
                    fixed = (f"model={name}", *noise, f"data.batch_size={size.batch_size}")
                    cfgs = {each: compose(*fixed, *each.split()) for each in cfg.choices[device].overrides}
                    measure = partial(training.choices, cfgs, name, size.steps, repeats, device)
                    yield Part(f"choices for {name}", turns, measure)
        case "start":
            yield Part(row, commands.turns(repeats), partial(commands.start, trainer, repeats))
        case "sweep":
            yield Part(row, commands.turns(repeats), partial(commands.sweep, trainer, repeats))
        case "memory":
            few = compose("data=noise", "data.train_images=1000", "data.test_images=200")
            models = cfg.models or cfg.memory.models
            yield Part(row, 1 + len(models), partial(commands.memory, few, compose("data=noise"), models))
        case "accuracy":
            overrides = [*cfg.accuracy.overrides, f"trainer={trainer}"]
            yield Part(row, 1, partial(commands.accuracy, overrides, cfg.accuracy.targets))
        case "together":
            overrides = [*cfg.together.overrides, f"trainer={trainer}"]
            yield Part(row, 2, partial(commands.together, overrides, cfg.together.jobs))
