"""The common form of images from all sources: a uint8 tensor that is read in batches."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.runs.escaping import printable

Batch = tuple[Tensor, Tensor, Tensor]


def digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's shape and bytes, 64 hexadecimal digits; over chunks of 16 MiB, hashed in threads."""
    content: Any = memoryview(tensor.cpu().contiguous().flatten().numpy()).cast("B")  # type: ignore[arg-type]
    with ThreadPoolExecutor() as pool:
        starts = range(0, len(content), 1 << 24)
        parts = pool.map(lambda start: hashlib.sha256(content[start : start + (1 << 24)]).digest(), starts)
        return hashlib.sha256(repr(tuple(tensor.shape)).encode() + b"".join(parts)).hexdigest()


class ImageSet(Dataset[Batch]):
    """Labelled images, or a selection of them, over one shared store that is never copied or written to.

    Args:
        images: uint8 ``[N, 3, H, W]``, values 0 to 255; in memory, or mapped from a file.
        labels: int64 ``[N]``, class indices, on the same device.
        positions: int64 ``[M]`` on the CPU, the images of the store in this set; all of them by default.
        content: ``digest(images)``, if known.
        ahead: called with the positions of each batch before it is gathered, int64 ``[B]``.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        positions: Tensor | None = None,
        content: str | None = None,
        ahead: Callable[[Tensor], None] | None = None,
    ) -> None:
        self.images = images
        self.labels = labels
        self.positions = torch.arange(len(images)) if positions is None else positions
        self.content = content
        self.ahead = ahead

    def __len__(self) -> int:
        return len(self.positions)

    def __getitems__(self, indices: Sequence[int] | Tensor) -> Batch:
        """Fetch a whole batch with one gather.

        The DataLoader's fetcher calls this instead of ``__getitem__``.

        Returns:
            images uint8 ``[B, 3, H, W]`` and labels int64 ``[B]`` on the store's device, and the images' positions in
            the store, int64 ``[B]`` on the CPU. Positions identify an image in every selection, so that its
            augmentation can depend on the image and not on its batch.
        """
        positions = self.positions[torch.as_tensor(indices)]
        if self.ahead is not None:
            self.ahead(positions)
        there = positions.to(self.images.device, non_blocking=True)
        return self.images.index_select(0, there), self.labels.index_select(0, there), positions

    def sample(self, size: int) -> Batch:
        """At most ``size`` images, evenly spaced, because sources may be sorted by class."""
        size = min(size, len(self))
        return self.__getitems__(torch.linspace(0, len(self) - 1, size).round().long())

    def to(self, device: torch.device) -> "ImageSet":
        """The same images in a store on ``device``."""
        return ImageSet(self.images.to(device), self.labels.to(device), self.positions)

    def select(self, positions: Tensor) -> "ImageSet":
        """The images at ``positions`` of the store (int64 ``[M]``), sharing its memory."""
        return ImageSet(self.images, self.labels, positions, ahead=self.ahead)


@dataclass(frozen=True)
class LabelledImages:
    """The result of a source: both halves of a data set and the names of its classes, by class index.

    ``bits``, for sources that read files: the significant bits of 16-bit pixels, see ``read_image``.
    """

    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    bits: int | None = None

    def check(self) -> None:
        """Check what a source of a user's own may get wrong.

        Raises:
            ValueError: a half has no images, or other images or labels than ``ImageSet`` takes; the halves have images
                of different sizes; or two classes have one name.
        """
        for half, own in {"training": self.train, "test": self.test}.items():
            for what, values, dtype, form in (
                ("images", own.images, torch.uint8, "[N, 3, S, S]"),
                ("labels", own.labels, torch.int64, "[N]"),
            ):
                if not isinstance(values, Tensor) or values.dtype != dtype or values.ndim != form.count(",") + 1:
                    found = [str(getattr(values, name, "")) for name in ("dtype", "shape")]
                    raise ValueError(
                        f"The {half} {what} are {' '.join([type(values).__name__, *found])}; expected a tensor {dtype} "
                        f"{form}."
                    )
            side, labels = self.train.images.shape[-1], own.labels
            if own.images.shape[1:] != (3, side, side):
                raise ValueError(
                    f"The {half} images are {list(own.images.shape)}; expected [N, 3, {side}, {side}] in both halves."
                )
            if len(own) == 0 or len(own.images) != len(labels):
                raise ValueError(
                    f"The {half} half has {len(own.images)} images and {len(labels)} labels; expected a label for each "
                    "image, and at least one."
                )
            if labels.min() < 0 or labels.max() >= len(self.classes):
                raise ValueError(
                    f"The {half} labels are {labels.min()} to {labels.max()}; expected 0 to {len(self.classes) - 1}, "
                    f"as there are {len(self.classes)} classes."
                )
        names = list(map(str, self.classes))
        if twice := sorted(name for name in names if names.count(name) > 1):
            raise ValueError(f"Several classes are called {printable(twice[0])}; expected another name for each.")

    @cached_property
    def content(self) -> str:
        """A hash of images, labels and classes, independent of their location: 64 hexadecimal digits."""
        halves = [
            (half.content or digest(half.images), digest(half.labels), digest(half.positions))
            for half in (self.train, self.test)
        ]
        return hashlib.sha256(repr((halves, self.classes)).encode()).hexdigest()
