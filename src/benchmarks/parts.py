"""The measurements, and their configurations of src.train."""

from collections.abc import Iterator
from functools import partial

import hydra
import torch
from omegaconf import DictConfig

from src.benchmarks import augmentation, commands, training
from src.benchmarks.measure import Part

# The rows of a device if none are asked for.
ROWS = {
    "cpu": ("augmentation", "policies", "mixing", "training", "choices", "start", "sweep", "predict", "memory"),
    "cuda": ("mixing", "trivialaugment", "training", "accuracy", "together"),
}


def parts(cfg: DictConfig) -> list[Part]:
    """The parts, with their cost, that ``cfg`` (conf/benchmark.yaml) requests.

    Raises:
        ValueError: a setting is out of its range.
    """
    _check(cfg)
    return [part for row in cfg.rows or ROWS[cfg.device] for part in _parts(row, cfg)]


def compose(*overrides: str) -> DictConfig:
    """The configuration that ``python -m src.train`` would have."""
    return hydra.compose("train", list(overrides))


def _check(cfg: DictConfig) -> None:
    if cfg.device not in ("cpu", "cuda"):
        raise ValueError(f"device is {cfg.device!r}; expected cpu or cuda.")
    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but torch finds no CUDA GPU here; use device=cpu.")
    if type(cfg.repeats) is not int or cfg.repeats < 1:
        raise ValueError(f"repeats is {cfg.repeats!r}; expected a whole number, 1 or more.")
    if cfg.minutes is not None and not (type(cfg.minutes) in (int, float) and cfg.minutes > 0):
        raise ValueError(f"minutes is {cfg.minutes!r}; expected a number above 0, or null for no limit.")
    for name, choices in (("rows", dict.fromkeys((*ROWS["cpu"], *ROWS["cuda"]))), ("models", cfg.training[cfg.device])):
        if isinstance(cfg[name], str):
            cfg[name] = [cfg[name]]
        if cfg[name] is not None and not cfg[name]:
            raise ValueError(f"{name} is empty; expected some of {', '.join(choices)}.")
        for choice in cfg[name] or ():
            if choice not in choices:
                raise ValueError(f"{name} has {choice!r}; expected some of {', '.join(choices)}.")


def _parts(row: str, cfg: DictConfig) -> Iterator[Part]:
    device = cfg.device
    trainer = {"cpu": "cpu", "cuda": "gpu"}[device]
    noise = (f"trainer={trainer}", "data=noise")
    match row:
        case "augmentation" | "policies":
            for name, pipeline, other, goal in augmentation.COMPARISONS[row]:
                config = compose(f"aug={name}", "data=noise", "trainer=cpu")
                measure = partial(augmentation.against_torchvision, config, name, pipeline, other, goal)
                yield Part(f"augmentation: {name}, against {pipeline}", 8, 1.5, measure)
        case "mixing":
            for name in ("mixup", "cutmix", "mixup_cutmix"):
                config = compose(f"aug={name}", "model=simplecnn", *noise)
                plain = compose("model=simplecnn", *noise)
                yield Part(f"mixing: {name}", 3, 0.6, partial(training.mixing, config, plain, name, device))
        case "trivialaugment":
            config = compose("aug=trivialaugment", "data.batch_size=500", *noise)
            yield Part(row, 3, 1, partial(augmentation.alone, config, device))
        case "training":
            for name in cfg.models or cfg.training[device]:
                size = cfg.training[device][name]
                least, more = size.seconds
                config = compose(
                    *(f"model={name}", f"compile={device == 'cuda'}", *noise, f"data.batch_size={size.batch_size}"),
                    f"data.train_images={max(50_000, size.batch_size * size.steps * (cfg.repeats + 1))}",
                    f"data.eval_batch_size={min(500, size.evaluated)}",
                )
                yield Part(f"training: {name}", least, more, partial(training.measure, config, name, size, device))
        case "choices":
            for name, size in cfg.choices[device].networks.items():
                if name in (cfg.models or [name]):
                    least, more = size.seconds
                    fixed = (f"model={name}", *noise, f"data.batch_size={size.batch_size}")
                    cfgs = {each: compose(*fixed, *each.split()) for each in cfg.choices[device].overrides}
                    measure = partial(training.choices, cfgs, name, size.steps, device)
                    yield Part(f"choices: {name}", least, more, measure)
        case "start":
            yield Part(row, 21, 10, partial(commands.start, trainer))
        case "sweep":
            yield Part(row, 28, 14, partial(commands.sweep, trainer))
        case "predict":
            for width, height, photos in (32, 32, 256), (640, 480, 128):
                config = hydra.compose("predict", [f"trainer={trainer}"])
                measure = partial(commands.prediction, config, (width, height), photos, device)
                yield Part(f"predict: {width} x {height}", 20, 4, measure)
        case "memory":
            few = compose("data=noise", "data.train_images=1000", "data.test_images=200")
            models = cfg.models or cfg.memory.models
            more = compose("data=noise")
            yield Part(row, 15 + 15 * len(models), 0, lambda _: commands.memory(few, more, models))
        case "accuracy":
            overrides = [*cfg.accuracy.overrides, f"trainer={trainer}"]
            yield Part(row, 300, 0, lambda _: commands.accuracy(overrides, cfg.accuracy.targets))
        case "together":
            overrides = [*cfg.together.overrides, f"trainer={trainer}"]
            yield Part(row, 60, 0, lambda _: commands.together(overrides, cfg.together.jobs))
