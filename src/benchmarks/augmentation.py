"""Speed of augmented, normalised batches."""

from collections.abc import Iterator
from itertools import count

import lightning as L
from omegaconf import DictConfig
from torch import Tensor

from src.benchmarks.measure import Contender, Row, Turns, own_process, take_turns, timed
from src.benchmarks.plain import loading
from src.data.datamodule import ImageDataModule
from src.training.build import build_data, quiet_lightning

PLAIN_BATCHES = 40  # a turn; ours goes once through all images

# By row: an augmentation of this project, its competitor in words, and the goal of the ratio.
_EACH = "torchvision, per image, 2 workers"
COMPARISONS: dict[str, tuple[tuple[str, str, str, float], ...]] = {
    "augmentation": (
        ("basic", "basic", _EACH, 8.0),
        ("trivialaugment", "trivialaugment", _EACH, 6.0),
        ("trivialaugment", "trivialaugment, v2 on tensors", "torchvision v2 on tensors, 2 workers", 6.0),
    ),
    "policies": tuple((name, name, _EACH, 6.0) for name in ("randaugment", "autoaugment", "random_erasing", "cutout")),
}


def batches(data: ImageDataModule, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Training batches on ``device``, epoch after epoch, made as for the Trainer."""
    with quiet_lightning():
        data.trainer = L.Trainer(accelerator=device, devices=1, logger=False, enable_checkpointing=False)
    place = data.trainer.strategy.root_device
    data.setup("fit")
    for epoch in count():
        for batch in data.train_dataloader():
            images, labels, positions = data.transfer_batch_to_device(batch, place, 0)
            images, labels = data.mix(data.augment(images, positions, epoch), labels, positions, epoch)
            yield data.normalise(images), labels


def against_torchvision(cfg: DictConfig, name: str, pipeline: str, other: str, goal: float, turns: Turns) -> list[Row]:
    """Batches of ``cfg``, a configuration of src.train, against those of torchvision's ``pipeline``, on the CPU."""
    batch = cfg.data.batch_size
    with own_process(loading, pipeline, batch, PLAIN_BATCHES) as theirs:
        seconds = take_turns({"ours": _epoch(cfg, "cpu"), "theirs": theirs}, turns)
    ours, against = ([batch / each for each in values] for values in seconds.values())
    return [Row(f"augmentation: {name}", "images/s", ours, other, against, goal)]


def alone(cfg: DictConfig, device: str, turns: Turns) -> list[Row]:
    """TrivialAugment of ``cfg``, a configuration of src.train, on ``device``, without a competitor."""
    batch = cfg.data.batch_size
    speeds = [batch / each for each in take_turns({"ours": _epoch(cfg, device)}, turns)["ours"]]
    goal = 500_000 if device == "cuda" else None
    return [Row("trivialaugment", "images/s", speeds, goal=goal, note=f"on {device}, batch {batch}")]


def _epoch(cfg: DictConfig, device: str) -> Contender:
    data = build_data(cfg)
    source = batches(data, device)
    return timed(lambda: next(source), len(data.train) // data.batch_size)
