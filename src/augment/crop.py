"""Shift images by padding them and cropping them to their size."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from src.augment.transform import Transform, integers


class RandomCrop(Transform):
    """Zero-pad by ``padding`` and crop back to size, both offsets uniform over ``0`` to ``2 * padding``.

    The distribution is that of torchvision's ``RandomCrop(size, padding)`` with ``size`` the image's own.

    Args:
        padding: pixels added on each side, not negative.

    Raises:
        ValueError: if ``padding`` is negative.
    """

    draws = 2

    def __init__(self, padding: int = 4) -> None:
        super().__init__()
        if padding < 0:
            raise ValueError(f"padding must be 0 or more pixels, got {padding}.")
        self.padding = padding

    def augment(self, images: Tensor, u: Tensor) -> Tensor:
        offsets = integers(u, 2 * self.padding + 1).to(images.device, non_blocking=True)
        top, left = offsets.unbind(dim=1)
        height, width = images.shape[-2:]
        # A view of all possible crops, [B, 3, tops, lefts, H, W]: choosing one per image is a single gather.
        crops = pad(images, [self.padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
        return crops[torch.arange(len(images), device=images.device), :, top, left]
