"""Mirror images left to right."""

import torch
from torch import Tensor

from src.augment.transform import Transform


def horizontal_flip(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirror some images of a batch.

    Args:
        images: uint8 ``[B, 3, H, W]``.
        flipped: bool ``[B]`` on the CPU, which images to mirror.

    Returns:
        uint8 ``[B, 3, H, W]``.
    """
    # Mirroring all, then copying whole images, is several times as fast on a CPU as torch.where over pixels.
    source = torch.arange(len(images)) + len(images) * flipped
    both = torch.cat([images, images.flip(-1)])
    return both.index_select(0, source.to(images.device, non_blocking=True))


class RandomHorizontalFlip(Transform):
    """Mirror every image with probability ``p``.

    Args:
        p: probability, in ``[0, 1]``.

    Raises:
        ValueError: if ``p`` lies outside ``[0, 1]``.
    """

    draws = 1

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p must be a probability in [0, 1], got {p}.")
        self.p = p

    def augment(self, images: Tensor, u: Tensor) -> Tensor:
        return horizontal_flip(images, u[:, 0] < self.p)
