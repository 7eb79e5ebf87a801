"""TrivialAugment (Wide): one random operation of random strength per image, for a whole batch at once.

An operation has only 31 strengths in two directions. If it only moves pixels or maps single values,
torchvision computes a table for all of them in advance, so that only a lookup remains. The other
operations have kernels with one parameter per image.
"""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from src.augment import kernels
from src.augment.transform import Transform, integers

BINS = 31
# An operation's settings: 2 * bin is the bin's magnitude, 2 * bin + 1 the same magnitude negated.
SETTINGS = 2 * BINS

# ------------------------------------------------------------------------------------------------------------
# The operations to tabulate: every operation's magnitude by setting, as in torchvision's class, and the
# operation itself.
# ------------------------------------------------------------------------------------------------------------

Operations = Mapping[str, tuple[list[float], Callable[[Tensor, float], Tensor]]]


def _signed(largest: float) -> list[float]:
    return [sign * m for m in torch.linspace(0.0, largest, BINS).tolist() for sign in (1.0, -1.0)]


def _unsigned(magnitudes: Tensor) -> list[float]:
    return magnitudes.repeat_interleave(2).tolist()


def _affine(image: Tensor, shift: list[float], slope: list[float]) -> Tensor:
    # Shear is about the top left corner and given as a slope; shifts are truncated to whole pixels.
    degrees = [math.degrees(math.atan(s)) for s in slope]
    return F.affine(image, 0.0, [int(s) for s in shift], 1.0, degrees, center=[0.0, 0.0])


_MOVES: Operations = {
    "ShearX": (_signed(0.99), lambda image, m: _affine(image, [0, 0], [m, 0])),
    "ShearY": (_signed(0.99), lambda image, m: _affine(image, [0, 0], [0, m])),
    "TranslateX": (_signed(32), lambda image, m: _affine(image, [m, 0], [0, 0])),
    "TranslateY": (_signed(32), lambda image, m: _affine(image, [0, m], [0, 0])),
    "Rotate": (_signed(135), F.rotate),
}
_CURVES: Operations = {
    "Identity": ([0.0] * SETTINGS, lambda ramp, _: ramp),
    "Brightness": (_signed(0.99), lambda ramp, m: F.adjust_brightness(ramp, 1.0 + m)),
    "Posterize": (_unsigned(8 - torch.linspace(0, 6, BINS).round()), lambda ramp, m: F.posterize(ramp, int(m))),
    "Solarize": (_unsigned(torch.linspace(1, 0, BINS)), lambda ramp, m: F.solarize(ramp, 255.0 * m)),
}

# ------------------------------------------------------------------------------------------------------------
# The tables, one row per operation and setting, cached for the process: computed on the CPU, so that a GPU
# uses the same ones, and outside the module, so that no checkpoint contains them.
# ------------------------------------------------------------------------------------------------------------


def _apply_all(operations: Operations, image: Tensor) -> Tensor:
    forms = [apply(image, m) for magnitudes, apply in operations.values() for m in magnitudes]
    return torch.stack(forms).flatten(1)


@lru_cache(maxsize=4)
def _sources(height: int, width: int, device: torch.device) -> Tensor:
    """For :func:`kernels.move_pixels`, int32 ``[310, H * W]``: 1.3 MB at 32 x 32, 62 MB at 224 x 224."""
    # The pixels of the transformed image are positions, from 1 on because torchvision fills with 0. Float32
    # is exact for up to 4096 x 4096 of them.
    positions = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, height, width)
    return _apply_all(_MOVES, positions).to(device, torch.int32)


@lru_cache
def _curves(device: torch.device) -> Tensor:
    """For :func:`kernels.map_tones`, uint8 ``[248, 256]``."""
    return _apply_all(_CURVES, torch.arange(256, dtype=torch.uint8).view(1, 16, 16)).to(device)


@lru_cache
def _weights(device: torch.device) -> Tensor:
    """For the ``adjust_*`` kernels, float32 ``[62, 2]``."""
    # Both weights are rounded from double precision, as in torchvision: 1 - w in float32 would differ.
    factors = [1.0 + m for m in _signed(0.99)]
    return torch.tensor([[factor, 1.0 - factor] for factor in factors], dtype=torch.float32, device=device)


# ------------------------------------------------------------------------------------------------------------
# The operations by kernel, in the order in which they are numbered. A kernel gets uint8 [B, 3, H, W] and, as
# int64 [B], every image's row in the kernel's table.
# ------------------------------------------------------------------------------------------------------------

_KERNELS: tuple[tuple[tuple[str, ...], Callable[[Tensor, Tensor], Tensor]], ...] = (
    (tuple(_MOVES), lambda x, row: kernels.move_pixels(x, _sources(x.shape[2], x.shape[3], x.device)[row])),
    (tuple(_CURVES), lambda x, row: kernels.map_tones(x, _curves(x.device)[row])),
    (("Color",), lambda x, row: kernels.adjust_saturation(x, _weights(x.device)[row])),
    (("Contrast",), lambda x, row: kernels.adjust_contrast(x, _weights(x.device)[row])),
    (("Sharpness",), lambda x, row: kernels.adjust_sharpness(x, _weights(x.device)[row])),
    (("AutoContrast",), lambda x, _: F.autocontrast(x)),
    (("Equalize",), lambda x, _: F.equalize(x)),
)
OPERATIONS = tuple(name for names, _ in _KERNELS for name in names)
_KERNEL_OF = torch.tensor([k for k, (names, _) in enumerate(_KERNELS) for _ in names])
_FIRST_ROW_OF = torch.tensor([SETTINGS * i for names, _ in _KERNELS for i in range(len(names))])


class TrivialAugmentWide(Transform):
    """Apply one operation to every image; operation, magnitude and direction are uniformly random.

    TrivialAugment (Müller & Hutter, 2021, https://arxiv.org/abs/2103.10158) in its wide space, with the
    defaults of torchvision's class: 14 operations, 31 magnitudes, nearest neighbour, black fill.
    Operations without magnitude or direction ignore the draws for them. Images must be at least 3 x 3.
    """

    draws = 3

    def augment(self, images: Tensor, u: Tensor) -> Tensor:
        operation = integers(u[:, 0], len(OPERATIONS))
        setting = 2 * integers(u[:, 1], BINS) + (u[:, 2] <= 0.5)  # torchvision also negates at exactly 0.5
        kernel = _KERNEL_OF[operation]
        row = _FIRST_ROW_OF[operation] + setting

        # Sorted by kernel, the images of one kernel are a slice, whose length is known on the host.
        order = kernel.argsort()
        sizes = kernel.bincount(minlength=len(_KERNELS)).tolist()
        plan = torch.stack([order, order.argsort(), row[order]])
        order, back, row = plan.to(images.device, non_blocking=True)
        slices = zip(images.index_select(0, order).split(sizes), row.split(sizes), strict=True)
        done = [apply(*part) for (_, apply), part in zip(_KERNELS, slices, strict=True)]
        return torch.cat(done).index_select(0, back)
