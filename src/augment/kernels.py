"""Batched image operations with one parameter per image; torchvision's versions take one per call.

All of them take uint8 ``[B, 3, H, W]`` and return a new uint8 tensor of that shape. The
``adjust_*`` kernels give the same result for every image as torchvision's v2 functional of the same name.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms.v2 import functional as F


def move_pixels(images: Tensor, sources: Tensor) -> Tensor:
    """Rearrange pixels: any nearest-neighbour warp with black outside.

    Args:
        images: uint8 ``[B, 3, H, W]``.
        sources: integer ``[B, H * W]``, for every pixel of the result one plus the row-major position of the
            pixel it shows, or 0 for black.
    """
    pixels = pad(images.flatten(2), (1, 0))
    return pixels.gather(2, sources.long()[:, None].expand(-1, 3, -1)).view_as(images)


def map_tones(images: Tensor, curves: Tensor) -> Tensor:
    """Map every value through the image's own lookup table: any operation on single values.

    Args:
        images: uint8 ``[B, 3, H, W]``.
        curves: uint8 ``[B, 256]``.
    """
    return curves.gather(1, images.flatten(1).long()).view_as(images)


def rectangles(bounds: Tensor, height: int, width: int) -> Tensor:
    """A mask of one rectangle per image.

    Args:
        bounds: int64 ``[4, B]``: the first row and the one after the last, the first column and the one after the last;
            what lies outside the image is ignored.
        height, width: of the images.

    Returns:
        bool ``[B, 1, H, W]``, true inside.
    """
    top, bottom, left, right = bounds[:, :, None]
    rows, columns = (torch.arange(size, device=bounds.device) for size in (height, width))
    vertical, horizontal = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return (vertical[:, :, None] & horizontal[:, None, :])[:, None]


def fill(images: Tensor, mask: Tensor, colour: Tensor) -> Tensor:
    """Give pixels a colour.

    Args:
        images: uint8 ``[B, 3, H, W]``.
        mask: bool ``[B, 1, H, W]``.
        colour: uint8 ``[3]`` or ``[1]``.
    """
    # Modulo 256 this is exact, and many times as fast on a CPU as torch.where.
    return torch.addcmul(images, colour[:, None, None] - images, mask.to(torch.uint8))


def adjust_saturation(images: Tensor, weights: Tensor) -> Tensor:
    """Blend every image with its own greyscale version.

    Args:
        images: uint8 ``[B, 3, H, W]``.
        weights: float32 ``[B, 2]``, torchvision's ``saturation_factor`` and one minus it.
    """
    return _blend(images, F.rgb_to_grayscale(images).float(), weights)


def adjust_contrast(images: Tensor, weights: Tensor) -> Tensor:
    """Blend every image with the mean of its greyscale version.

    Args:
        images: uint8 ``[B, 3, H, W]``.
        weights: float32 ``[B, 2]``, torchvision's ``contrast_factor`` and one minus it.
    """
    # Up to 256 x 256 pixels float32 sums grey levels exactly, in any order.
    mean = F.rgb_to_grayscale(images).float().mean(dim=(1, 2, 3), keepdim=True)
    return _blend(images, mean, weights)


def adjust_sharpness(images: Tensor, weights: Tensor) -> Tensor:
    """Blend every image with a blurred version of itself; the border pixels do not change.

    The blur weighs the 3 x 3 neighbourhood 1 and the pixel itself 5 (the smoothing filter of Pillow and
    torchvision), over 13.

    Args:
        images: uint8 ``[B, 3, H, W]`` with H and W at least 3.
        weights: float32 ``[B, 2]``, torchvision's ``sharpness_factor`` and one minus it.
    """
    levels = images.short()
    columns = levels[:, :, :-2] + levels[:, :, 1:-1] + levels[:, :, 2:]
    inner = levels[:, :, 1:-1, 1:-1]
    total = columns[..., :-2] + columns[..., 1:-1] + columns[..., 2:] + 4 * inner
    # No integer over 13 lies halfway between two integers, so this rounds like torchvision's float
    # convolution and, unlike that, equally on every device.
    change = (total + 6) // 13 - inner
    sharpened = images.clone()
    sharpened[:, :, 1:-1, 1:-1] = _add_scaled(inner.float(), change.float(), weights[:, 1])
    return sharpened


def _blend(images: Tensor, others: Tensor, weights: Tensor) -> Tensor:
    own, other = weights.unbind(1)
    return _add_scaled(images * own[:, None, None, None], others, other)


def _add_scaled(levels: Tensor, others: Tensor, scale: Tensor) -> Tensor:
    # torchvision's `add_(others, alpha=scale)` fuses product and sum, and so does addcmul, which can scale
    # per image. Rounding twice would sometimes give a different grey level.
    return torch.addcmul(levels, others, scale[:, None, None, None]).clamp_(0, 255).to(torch.uint8)
