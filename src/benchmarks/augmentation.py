"""How fast augmented, normalised batches come."""

from collections.abc import Callable, Iterator
from itertools import count

import lightning as L
from omegaconf import DictConfig
from torch import Tensor

from src.benchmarks.measure import Contender, OwnProcess, Row, seconds_of, take_turns
from src.benchmarks.plain import Pipeline, loading
from src.data.datamodule import ImageDataModule
from src.training.build import build_data, quiet_lightning

PLAIN_BATCHES = 40  # a turn; ours goes once through all images

# An augmentation of ours, what it is compared with, in words, and the goal of the ratio.
COMPARISONS: tuple[tuple[str, Pipeline, str, float], ...] = (
    ("basic", "basic", "torchvision, per image, 2 workers", 8.0),
    ("trivialaugment", "trivialaugment", "torchvision, per image, 2 workers", 6.0),
    ("trivialaugment", "trivialaugment, v2 on tensors", "torchvision v2 on tensors, 2 workers", 6.0),
)


def batches(data: ImageDataModule, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Training batches on ``device``, epoch after epoch, made as the Trainer has them made."""
    with quiet_lightning():
        data.trainer = L.Trainer(accelerator=device, devices=1, logger=False, enable_checkpointing=False)
    place = data.trainer.strategy.root_device
    data.setup("fit")
    for epoch in count():
        for batch in data.train_dataloader():
            images, labels, positions = data.transfer_batch_to_device(batch, place, 0)
            yield data.normalise(data.augment(images, positions, epoch)), labels


def contender(data: ImageDataModule, device: str) -> Contender:
    """Batches, and nothing done with them."""
    source = batches(data, device)

    def run(steps: int) -> float:
        return seconds_of(lambda: [None for _ in zip(range(steps), source, strict=False)], device)

    return run


def measure(
    cfg: DictConfig, name: str, pipeline: Pipeline, other: str, goal: float, repeats: int, tick: Callable[[], None]
) -> list[Row]:
    """Ours against torchvision's, on the CPU.

    Args:
        cfg: a configuration of src.train.
        name: of its augmentation.
        pipeline: torchvision's.
        other: that in words.
        goal: of the ratio.
        repeats: how many count.
        tick: called after every turn, ``repeats + 1`` times.
    """
    data = build_data(cfg)
    with OwnProcess(loading, pipeline, data.batch_size) as theirs:
        steps = {"ours": len(data.train) // data.batch_size, "theirs": PLAIN_BATCHES}
        rates = take_turns({"ours": contender(data, "cpu"), "theirs": theirs}, steps, repeats, tick)
    speeds = {who: [data.batch_size * rate for rate in values] for who, values in rates.items()}
    return [Row(f"augmentation: {name}", "images/s", speeds["ours"], other, speeds["theirs"], goal=goal)]


def alone(cfg: DictConfig, device: str, repeats: int, tick: Callable[[], None]) -> list[Row]:
    """TrivialAugment on ``device``, with nothing beside it.

    Args:
        cfg: a configuration of src.train.
        device: ``"cpu"`` or ``"cuda"``.
        repeats: how many count.
        tick: called after every turn, ``repeats + 1`` times.
    """
    data = build_data(cfg)
    steps = len(data.train) // data.batch_size
    rates = take_turns({"ours": contender(data, device)}, {"ours": steps}, repeats, tick)
    speeds = [data.batch_size * rate for rate in rates["ours"]]
    goal = 500_000 if device == "cuda" else None
    return [Row("trivialaugment", "images/s", speeds, goal=goal, note=f"on {device}, batch {data.batch_size}")]
