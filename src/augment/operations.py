"""The operations of automatic augmentation policies: one of random strength per image, for a whole batch at once.

An operation has only a few strengths in two directions. If it only moves pixels or maps single values, torchvision
computes a table for all of them in advance, so that only a lookup remains. The other operations have kernels with one
parameter per image.
"""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from src.augment import kernels


class Space(NamedTuple):
    """The magnitudes of a policy: for each operation, evenly spaced ones from 0 to the largest.

    An operation has two settings for each bin: ``2 * bin`` is the bin's magnitude, ``2 * bin + 1`` the same magnitude
    negated. Operations without a direction, or without any magnitude, ignore it.

    Args:
        bins: number of magnitudes.
        shear: the largest slope.
        shift: the largest shift in pixels, from the side of the image.
        degrees: the largest rotation.
        change: the largest change of the factor, which is 1 for no change, of brightness, colour, contrast, sharpness.
        bits: the largest number of bits that posterising removes.
    """

    bins: int
    shear: float
    shift: Callable[[int], float]
    degrees: float
    change: float
    bits: int

    def signed(self, largest: float) -> list[float]:
        """Magnitudes by setting of an operation with a direction."""
        return [sign * m for m in torch.linspace(0.0, largest, self.bins).tolist() for sign in (1.0, -1.0)]

    def unsigned(self, first: float, last: float) -> list[float]:
        """Magnitudes by setting of an operation without one."""
        return torch.linspace(first, last, self.bins).repeat_interleave(2).tolist()


# ---- The operations to tabulate --------------------------------------------------------------------------------------
# Every operation's magnitude by setting, as in torchvision's classes, and the operation itself.

Operations = Mapping[str, tuple[list[float], Callable[[Tensor, float], Tensor]]]


def _affine(image: Tensor, shift: list[float], slope: list[float]) -> Tensor:
    # Shear is about the top left corner and given as a slope; shifts are truncated to whole pixels.
    degrees = [math.degrees(math.atan(s)) for s in slope]
    return F.affine(image, 0.0, [int(s) for s in shift], 1.0, degrees, center=[0.0, 0.0])


def _moves(space: Space, height: int, width: int) -> Operations:
    return {
        "ShearX": (space.signed(space.shear), lambda image, m: _affine(image, [0, 0], [m, 0])),
        "ShearY": (space.signed(space.shear), lambda image, m: _affine(image, [0, 0], [0, m])),
        "TranslateX": (space.signed(space.shift(width)), lambda image, m: _affine(image, [m, 0], [0, 0])),
        "TranslateY": (space.signed(space.shift(height)), lambda image, m: _affine(image, [0, m], [0, 0])),
        "Rotate": (space.signed(space.degrees), F.rotate),
    }


def _tones(space: Space) -> Operations:
    posterized = [8.0 - round(bits) for bits in space.unsigned(0, space.bits)]
    return {
        "Brightness": (space.signed(space.change), lambda ramp, m: F.adjust_brightness(ramp, 1.0 + m)),
        "Posterize": (posterized, lambda ramp, m: F.posterize(ramp, int(m))),
        "Solarize": (space.unsigned(1, 0), lambda ramp, m: F.solarize(ramp, 255.0 * m)),
    }


# ---- The tables ------------------------------------------------------------------------------------------------------
# One row per operation and setting, cached for the process: computed on the CPU, so that a GPU uses the same ones, and
# outside the modules, so that no checkpoint contains them.


def _apply_all(operations: Operations, image: Tensor) -> Tensor:
    forms = [apply(image, m) for magnitudes, apply in operations.values() for m in magnitudes]
    return torch.stack(forms).flatten(1)


@lru_cache(maxsize=4)
def _sources(space: Space, height: int, width: int, device: torch.device) -> Tensor:
    """For :func:`kernels.move_pixels`, int32 ``[5 * settings, H * W]``.

    With 31 bins 1.3 MB at 32 x 32, 62 MB at 224 x 224.
    """
    # The pixels of the transformed image are positions, from 1 on because torchvision fills with 0. Float32
    # is exact for up to 4096 x 4096 of them.
    positions = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, height, width)
    return _apply_all(_moves(space, height, width), positions).to(device, torch.int32)


@lru_cache
def _curves(space: Space, device: torch.device) -> Tensor:
    """For :func:`kernels.map_tones`, uint8 ``[3 * settings, 256]``."""
    return _apply_all(_tones(space), torch.arange(256, dtype=torch.uint8).view(1, 16, 16)).to(device)


@lru_cache
def _weights(space: Space, device: torch.device) -> Tensor:
    """For the ``adjust_*`` kernels, float32 ``[settings, 2]``."""
    # Both weights are rounded from double precision, as in torchvision: 1 - w in float32 would differ.
    factors = [1.0 + m for m in space.signed(space.change)]
    return torch.tensor([[factor, 1.0 - factor] for factor in factors], dtype=torch.float32, device=device)


# ---- The operations by kernel ----------------------------------------------------------------------------------------
# In the order in which they are numbered. A kernel gets uint8 [B, 3, H, W], as int64 [B] every image's row in the
# kernel's table, and the space.

Kernel = Callable[[Tensor, Tensor, Space], Tensor]

_KERNELS: tuple[tuple[tuple[str, ...], Kernel], ...] = (
    (
        ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"),
        lambda x, row, space: kernels.move_pixels(x, _sources(space, x.shape[2], x.shape[3], x.device)[row]),
    ),
    (("Identity",), lambda x, row, space: x),
    (("Brightness", "Posterize", "Solarize"), lambda x, row, s: kernels.map_tones(x, _curves(s, x.device)[row])),
    (("Color",), lambda x, row, space: kernels.adjust_saturation(x, _weights(space, x.device)[row])),
    (("Contrast",), lambda x, row, space: kernels.adjust_contrast(x, _weights(space, x.device)[row])),
    (("Sharpness",), lambda x, row, space: kernels.adjust_sharpness(x, _weights(space, x.device)[row])),
    (("AutoContrast",), lambda x, row, space: F.autocontrast(x)),
    (("Equalize",), lambda x, row, space: F.equalize(x)),
    (("Invert",), lambda x, row, space: F.invert(x)),
)
# The last one is used by AutoAugment only; the other policies draw from those before it.
OPERATIONS = tuple(name for names, _ in _KERNELS for name in names)
_KERNEL_OF = torch.tensor([k for k, (names, _) in enumerate(_KERNELS) for _ in names])
_PLACE_OF = torch.tensor([i for names, _ in _KERNELS for i in range(len(names))])


def apply(images: Tensor, operation: Tensor, setting: Tensor, space: Space) -> Tensor:
    """Apply to every image its own operation in its own setting.

    Args:
        images: uint8 ``[B, 3, H, W]``, H and W at least 3, on any device.
        operation: int64 ``[B]`` on the CPU, into ``OPERATIONS``.
        setting: int64 ``[B]`` on the CPU, from 0 to ``2 * space.bins - 1``.
        space: the magnitudes.

    Returns:
        A new uint8 tensor ``[B, 3, H, W]``.
    """
    kernel = _KERNEL_OF[operation]
    row = _PLACE_OF[operation] * 2 * space.bins + setting
    # Sorted by kernel, the images of one kernel are a slice, whose length is known on the host.
    order = kernel.argsort()
    sizes = kernel.bincount(minlength=len(_KERNELS)).tolist()
    plan = torch.stack([order, order.argsort(), row[order]])
    order, back, row = plan.to(images.device, non_blocking=True)
    slices = zip(images.index_select(0, order).split(sizes), row.split(sizes), strict=True)
    done = [function(*part, space) for (_, function), part in zip(_KERNELS, slices, strict=True)]
    return torch.cat(done).index_select(0, back)
