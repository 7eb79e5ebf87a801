"""The reference: the usual way, one image at a time through torchvision, two workers, an unoptimised loop.

Everything here is written the usual way on purpose, and runs in a separate process. Where the measurement is biased, it
favours this side: the start of its workers is never timed.
"""

import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from src.benchmarks.measure import Contender, timed
from src.inference.load import load
from src.runs.trust import instantiate

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
IMAGES = 50_000
WORKERS = 2
_IN_STOCK = WORKERS * 2 + 1  # batches prefetched when the clock starts; not counted


class Images(Dataset[tuple[Any, int]]):
    """Random images, returned as by torchvision's CIFAR10: one at a time, transformed by a pipeline of those below."""

    def __init__(self, pipeline: str) -> None:
        self.images: Any = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
        self.read: Any = Image.fromarray
        of, to_tensor = transforms, transforms.ToTensor()
        if pipeline == "trivialaugment, v2 on tensors":
            self.images, self.read = torch.from_numpy(self.images).permute(0, 3, 1, 2).contiguous(), nn.Identity()
            of, to_tensor = v2, v2.ToDtype(torch.float32, scale=True)
        before, after = {
            "basic": ([], []),
            "trivialaugment": ([of.TrivialAugmentWide()], []),
            "trivialaugment, v2 on tensors": ([of.TrivialAugmentWide()], []),
            "randaugment": ([of.RandAugment()], []),
            "autoaugment": ([of.AutoAugment(of.AutoAugmentPolicy.CIFAR10)], []),
            "random_erasing": ([], [of.RandomErasing()]),
            "cutout": ([], [of.RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0))]),  # 16 x 16 of 32 x 32
        }[pipeline]
        crop_flip = [of.RandomCrop(32, padding=4), of.RandomHorizontalFlip()]
        self.transform = of.Compose([*crop_flip, *before, to_tensor, of.Normalize(MEAN, STD), *after])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.read(self.images[index])), index % 10


def _batches(pipeline: str, batch_size: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch."""
    loader = DataLoader(
        Images(pipeline), batch_size, shuffle=True, num_workers=WORKERS, pin_memory=device == "cuda", drop_last=True
    )
    return chain.from_iterable(repeat(loader))


def _from_stock(step: Callable[[], Any], steps: int) -> Contender:
    """Times calls of ``step``, which takes a batch, after the prefetched batches are used up."""
    run = timed(step, steps)

    def turn() -> float:
        if steps > 2 * _IN_STOCK:  # with fewer, steps are so slow that prefetching keeps up
            for _ in range(_IN_STOCK):
                step()
        seconds = run()
        time.sleep(0.3)  # the workers prefetch again before the next contender's turn
        return seconds

    return turn


def loading(pipeline: str, batch_size: int, steps: int) -> Contender:
    """Batches from the loader, and nothing else."""
    batches = _batches(pipeline, batch_size, "cpu")
    return _from_stock(lambda: next(batches), steps)


def training(model: dict[str, Any], batch_size: int, device: str, steps: int) -> Contender:
    """The loop of the tutorials: eager, channels first, float32, reading the loss in every step.

    ``model`` is a choice of conf/model, resolved.
    """
    batches = _batches("basic", batch_size, device)
    torch.manual_seed(0)
    network = instantiate(model, num_classes=10, image_size=32).to(device)
    network.train()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    running_loss, correct, total = 0.0, 0, 0

    def step() -> None:
        nonlocal running_loss, correct, total
        images, labels = next(batches)
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        outputs = network(images)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        total += labels.size(0)
        correct += outputs.argmax(1).eq(labels).sum().item()

    return _from_stock(step, steps)


def predicting(run: Path, photos: Path, device: str, batch_size: int) -> Contender:
    """The three most probable classes of every file of ``photos``, by the network of a run folder; seconds for all."""
    trained = load(run)
    network, settings = trained.network.to(device), trained.config.data
    sides = (trained.image_size, trained.image_size)
    steps = [transforms.Resize(sides), transforms.ToTensor(), transforms.Normalize(settings.mean, settings.std)]
    transform = transforms.Compose(steps)
    files = sorted(photos.iterdir())

    @torch.no_grad()
    def step() -> None:
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            images = torch.stack([transform(Image.open(file).convert("RGB")) for file in batch])
            values, classes = network(images.to(device)).softmax(1).topk(3)
            values.tolist(), classes.tolist()

    return timed(step, 1)
