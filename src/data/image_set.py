"""The one form in which images leave a source: a uint8 tensor that is fetched a batch at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

Batch = tuple[Tensor, Tensor, Tensor]


class ImageSet(Dataset[Batch]):
    """Labelled images, or a selection of them, over one shared store that is never copied.

    Args:
        images: uint8 ``[N, 3, H, W]``, values 0 to 255.
        labels: int64 ``[N]``, class indices, on the same device.
        positions: int64 ``[M]`` on the CPU, which images of the store belong to this set; all of them when omitted.
    """

    def __init__(self, images: Tensor, labels: Tensor, positions: Tensor | None = None) -> None:
        self.images = images
        self.labels = labels
        self.positions = torch.arange(len(images)) if positions is None else positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitems__(self, indices: Sequence[int] | Tensor) -> Batch:
        """Fetch a whole batch with one gather.

        The DataLoader's fetcher calls this instead of ``__getitem__`` where it exists.

        Returns:
            images uint8 ``[B, 3, H, W]`` and labels int64 ``[B]`` on the store's device, and the images' positions in
            the store, int64 ``[B]`` on the CPU: they name an image whatever selection it was drawn through, so that its
            augmentation can depend on the image and not on the batch it happens to sit in.
        """
        positions = self.positions[torch.as_tensor(indices)]
        there = positions.to(self.images.device, non_blocking=True)
        return self.images.index_select(0, there), self.labels.index_select(0, there), positions

    def sample(self, size: int) -> Batch:
        """At most ``size`` images, evenly spaced: sources may hold theirs class by class."""
        size = min(size, len(self))
        return self.__getitems__(torch.linspace(0, len(self) - 1, size).round().long())

    def to(self, device: torch.device) -> "ImageSet":
        """The same images in a store on ``device``."""
        return ImageSet(self.images.to(device), self.labels.to(device), self.positions)

    def select(self, positions: Tensor) -> "ImageSet":
        """The images at ``positions`` of the store (int64 ``[M]``), sharing its memory."""
        return ImageSet(self.images, self.labels, positions)


@dataclass(frozen=True)
class LabelledImages:
    """What a source delivers: both halves of a data set and the names of its classes, by class index."""

    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
