"""Speed of augmented, normalised batches."""

from collections.abc import Iterator
from itertools import count

import lightning as L
from omegaconf import DictConfig
from torch import Tensor

from src.benchmarks.measure import Row, Tick, own_process, take_turns, timed
from src.benchmarks.plain import Pipeline, loading
from src.data.datamodule import ImageDataModule
from src.training.build import build_data, quiet_lightning

PLAIN_BATCHES = 40  # a turn; ours goes once through all images

# By row: an augmentation of this project, its competitor in words, and the goal of the ratio.
_EACH = "torchvision, per image, 2 workers"
COMPARISONS: dict[str, tuple[tuple[str, Pipeline, str, float], ...]] = {
    "augmentation": (
        ("basic", "basic", _EACH, 8.0),
        ("trivialaugment", "trivialaugment", _EACH, 6.0),
        ("trivialaugment", "trivialaugment, v2 on tensors", "torchvision v2 on tensors, 2 workers", 6.0),
    ),
    "policies": (
        ("randaugment", "randaugment", _EACH, 6.0),
        ("autoaugment", "autoaugment", _EACH, 6.0),
        ("random_erasing", "random_erasing", _EACH, 6.0),
        ("cutout", "cutout", _EACH, 6.0),
    ),
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


def against_torchvision(
    cfg: DictConfig, name: str, pipeline: Pipeline, other: str, goal: float, repeats: int, tick: Tick
) -> list[Row]:
    """Batches of ``cfg``, a configuration of src.train, against those of torchvision's ``pipeline``, on the CPU."""
    data = build_data(cfg)
    source = batches(data, "cpu")
    with own_process(loading, pipeline, data.batch_size) as theirs:
        steps = {"ours": len(data.train) // data.batch_size, "theirs": PLAIN_BATCHES}
        rates = take_turns({"ours": timed(lambda: next(source)), "theirs": theirs}, steps, repeats, tick)
    ours, against = ([data.batch_size * rate for rate in values] for values in rates.values())
    return [Row(f"augmentation: {name}", "images/s", ours, other, against, goal)]


def alone(cfg: DictConfig, device: str, repeats: int, tick: Tick) -> list[Row]:
    """TrivialAugment of ``cfg``, a configuration of src.train, on ``device``, without a competitor."""
    data = build_data(cfg)
    source = batches(data, device)
    steps = {"ours": len(data.train) // data.batch_size}
    rates = take_turns({"ours": timed(lambda: next(source))}, steps, repeats, tick)
    speeds = [data.batch_size * rate for rate in rates["ours"]]
    goal = 500_000 if device == "cuda" else None
    return [Row("trivialaugment", "images/s", speeds, goal=goal, note=f"on {device}, batch {data.batch_size}")]
