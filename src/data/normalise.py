"""Normalisation: from uint8 images to the input of a network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """uint8 images to float32, ``(value / 255 - mean) / std`` per channel.

    Args:
        mean, std: three numbers each, for values 0 to 1; kept as buffers ``mean`` and ``std`` of ``[3]``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 ``[B, 3, S, S]`` to float32 of the same shape, on the module's device."""
        mean, std = (255 * constant.view(3, 1, 1) for constant in (self.mean, self.std))
        return (images.float() - mean) / std
