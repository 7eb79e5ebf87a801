"""Normalisation: from uint8 images to the input of a network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue (ITU-R BT.601)


class Normalise(nn.Module):
    """uint8 images to float32, ``(value / 255 - mean) / std`` per channel.

    Args:
        mean, std: three numbers each, for values 0 to 1; kept as buffers ``mean`` and ``std`` of ``[channels]``.
        channels: 3, or 1 to make images grey, normalised by the means of ``mean`` and ``std``. None means 3.

    Raises:
        ValueError: ``channels`` is something else.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels: int | None = None) -> None:
        super().__init__()
        if channels not in (None, 1, 3):
            raise ValueError(f"data.channels is {channels!r}; expected 1, 3 or null.")
        self.channels = channels or 3
        for name, values in (("mean", mean), ("std", std)):
            constants = torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, constants if self.channels == 3 else constants.mean(dim=0, keepdim=True))

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, S, S]``, values 0 to 255, to float32 ``[B, channels, S, S]``, on the module's device."""
        mean, std = (255 * constant.view(-1, 1, 1) for constant in (self.mean, self.std))
        levels = images.float()
        if self.channels == 1:
            red, green, blue = levels.split(1, dim=1)
            levels = GREY[0] * red + GREY[1] * green + GREY[2] * blue
        return (levels - mean) / std
