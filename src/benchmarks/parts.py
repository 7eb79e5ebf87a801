"""What is measured, with which configurations of src.train."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import hydra
import torch
from omegaconf import DictConfig

from src.benchmarks import augmentation, commands, training
from src.benchmarks.measure import Row

# Those of a device, unless conf/benchmark or the user name others.
ROWS = {
    "cpu": ("augmentation", "training", "choices", "start", "sweep", "memory"),
    "cuda": ("trivialaugment", "training", "accuracy", "together"),
}
_TRAINER = {"cpu": "cpu", "cuda": "gpu"}  # of conf/trainer


class Part(NamedTuple):
    """Rows that are measured together.

    Args:
        what: is measured, for the progress bar.
        turns: how often ``measure`` calls what it is given: whenever everyone has had a turn.
        measure: makes the rows.
    """

    what: str
    turns: int
    measure: Callable[[Callable[[], None]], list[Row]]


def parts(cfg: DictConfig) -> list[Part]:
    """What ``cfg`` (conf/benchmark.yaml) asks for.

    Raises:
        ValueError: a setting is out of its range.
    """
    _check(cfg)
    return [part for row in cfg.rows or ROWS[cfg.device] for part in _PARTS[row](cfg)]


def compose(*overrides: str) -> DictConfig:
    """The configuration that ``python -m src.train`` would have."""
    return hydra.compose("train", list(overrides))


def _check(cfg: DictConfig) -> None:
    if cfg.device not in ROWS:
        raise ValueError(f"device is {cfg.device!r}; expected cpu or cuda.")
    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but torch finds no CUDA GPU here; use device=cpu.")
    if not isinstance(cfg.repeats, int) or cfg.repeats < 1:
        raise ValueError(f"repeats is {cfg.repeats!r}; expected a whole number, 1 or more.")
    for name, choices in (("rows", tuple(_PARTS)), ("models", tuple(cfg.training[cfg.device]))):
        if isinstance(cfg[name], str):
            cfg[name] = [cfg[name]]
        if cfg[name] is not None and not cfg[name]:
            raise ValueError(f"{name} is empty; expected some of {', '.join(choices)}.")
        for choice in cfg[name] or ():
            if choice not in choices:
                raise ValueError(f"{name} has {choice!r}; expected some of {', '.join(choices)}.")


def _augmentation(cfg: DictConfig) -> Iterator[Part]:
    for name, pipeline, other, goal in augmentation.COMPARISONS:
        config = compose(f"aug={name}", "data=noise", "trainer=cpu")
        of_one = partial(augmentation.measure, config, name, pipeline, other, goal, cfg.repeats)
        yield Part(f"augmentation: {name}", cfg.repeats + 1, of_one)


def _trivialaugment(cfg: DictConfig) -> Iterator[Part]:
    trainer = f"trainer={_TRAINER[cfg.device]}"
    on_device = compose("aug=trivialaugment", "data=noise", "data.batch_size=500", trainer)
    yield Part("trivialaugment", cfg.repeats + 1, partial(augmentation.alone, on_device, cfg.device, cfg.repeats))


def _training(cfg: DictConfig) -> Iterator[Part]:
    sizes = cfg.training[cfg.device]
    for name in cfg.models or sizes:
        size = sizes[name]
        images = max(50_000, size.batch_size * size.steps * (cfg.repeats + 1))
        config = compose(
            *(f"model={name}", f"trainer={_TRAINER[cfg.device]}", f"compile={cfg.device == 'cuda'}"),
            *("data=noise", f"data.batch_size={size.batch_size}", f"data.train_images={images}"),
            f"data.eval_batch_size={min(500, size.evaluated)}",
        )
        settings = {"steps": size.steps, "evaluated": size.evaluated, "repeats": cfg.repeats, "device": cfg.device}
        yield Part(name, cfg.repeats + 1, partial(training.measure, config, name, **settings))


def _choices(cfg: DictConfig) -> Iterator[Part]:
    choices = cfg.choices[cfg.device]
    for name, size in choices.networks.items():
        if cfg.models and name not in cfg.models:
            continue
        fixed = (f"model={name}", f"trainer={_TRAINER[cfg.device]}", "data=noise", f"data.batch_size={size.batch_size}")
        cfgs = {overrides: compose(*fixed, *overrides.split()) for overrides in choices.overrides}
        settings = {"steps": size.steps, "repeats": cfg.repeats, "device": cfg.device}
        yield Part(f"choices for {name}", cfg.repeats + 1, partial(training.choices, cfgs, name, **settings))


def _start(cfg: DictConfig) -> Iterator[Part]:
    yield Part("start", cfg.repeats + 1, partial(commands.start, _TRAINER[cfg.device], cfg.repeats))


def _sweep(cfg: DictConfig) -> Iterator[Part]:
    yield Part("sweep", cfg.repeats + 1, partial(commands.sweep, _TRAINER[cfg.device], cfg.repeats))


def _memory(cfg: DictConfig) -> Iterator[Part]:
    few, all_of_them = compose("data=noise", "data.train_images=1000", "data.test_images=200"), compose("data=noise")
    models = cfg.models or cfg.memory.models
    yield Part("memory", 1 + len(models), partial(commands.memory, few, all_of_them, models))


def _accuracy(cfg: DictConfig) -> Iterator[Part]:
    overrides = [*cfg.accuracy.overrides, f"trainer={_TRAINER[cfg.device]}"]
    yield Part("accuracy", 1, partial(commands.accuracy, overrides, cfg.accuracy.targets))


def _together(cfg: DictConfig) -> Iterator[Part]:
    overrides = [*cfg.together.overrides, f"trainer={_TRAINER[cfg.device]}"]
    yield Part("together", 2, partial(commands.together, overrides, cfg.together.jobs))


_PARTS: dict[str, Callable[[DictConfig], Iterator[Part]]] = {
    "augmentation": _augmentation,
    "trivialaugment": _trivialaugment,
    "training": _training,
    "choices": _choices,
    "start": _start,
    "sweep": _sweep,
    "memory": _memory,
    "accuracy": _accuracy,
    "together": _together,
}
