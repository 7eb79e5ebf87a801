"""Paint over a rectangle of every image: Cutout and random erasing."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from src.augment import kernels
from src.augment.transform import Transform, integers


class Erase(Transform):
    """What the two have in common: the colour.

    Args:
        fill: of each channel, 0 to 1; one number for all.
    """

    def __init__(self, fill: float | Sequence[float]) -> None:
        super().__init__()
        levels = [fill] if isinstance(fill, int | float) else fill
        if len(levels) not in (1, 3) or not all(isinstance(x, int | float) and 0 <= x <= 1 for x in levels):
            raise ValueError(f"fill is {fill}; expected one number or three, from 0 (black) to 1 (white).")
        self.colour = torch.tensor([round(255 * level) for level in levels], dtype=torch.uint8)

    def erase(self, images: Tensor, *bounds: Tensor) -> Tensor:
        """Erase rectangles given by top, bottom, left, right, int64 ``[B]`` on the CPU."""
        inside = kernels.rectangles(torch.stack(bounds).to(images.device, non_blocking=True), *images.shape[-2:])
        return kernels.fill(images, inside, self.colour.to(images.device, non_blocking=True))


class Cutout(Erase):
    """Erase a square around a uniformly random pixel of every image; at the border, what lies inside the image.

    Cutout (DeVries & Taylor, 2017, https://arxiv.org/abs/1708.04552), which erases 16 x 16 pixels of CIFAR-10's images
    and 8 x 8 of CIFAR-100's, with the mean colour.

    Args:
        size: side of the square in pixels, 1 or more.
        fill: of each channel, 0 to 1; one number for all.

    Raises:
        ValueError: ``size`` or ``fill`` is out of range; when called, the square is as large as the images.
    """

    draws = 2

    def __init__(self, size: int = 16, fill: float | Sequence[float] = 0.0) -> None:
        super().__init__(fill)
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"Cutout's size is {size!r}; expected a number of pixels, 1 or more.")
        self.size = size

    def augment(self, images: Tensor, u: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if self.size >= max(height, width):
            raise ValueError(
                f"Cutout's size is {self.size}, which covers images of {height} x {width} pixels; choose a smaller "
                "one, such as half of their side."
            )
        top, left = (integers(u[:, i], side) - self.size // 2 for i, side in enumerate((height, width)))
        return self.erase(images, top, top + self.size, left, left + self.size)


class RandomErasing(Erase):
    """Erase a rectangle of random area, shape and place, in every image with probability ``p``.

    Random erasing (Zhong et al., 2017, https://arxiv.org/abs/1708.04896), drawn as by torchvision's class: area and
    logarithm of height by width are uniform, and drawn again, up to ten times, until both sides are below the image's.

    Args:
        p: probability, 0 to 1.
        scale: smallest and largest area, as a share of the image's, 0 to 1.
        ratio: smallest and largest ratio of height to width, above 0.
        fill: of each channel, 0 to 1; one number for all.

    Raises:
        ValueError: a setting is out of its range.
    """

    tries = 10
    draws = 1 + 2 * tries + 2  # whether; area and shape of each try; place

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        fill: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__(fill)
        if not 0 <= p <= 1:
            raise ValueError(f"p must be a probability in [0, 1], got {p}.")
        if len(scale) != 2 or not 0 <= scale[0] <= scale[1] <= 1:
            raise ValueError(f"RandomErasing's scale is {scale}; expected two ascending numbers from 0 to 1.")
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"RandomErasing's ratio is {ratio}; expected two ascending numbers above 0.")
        self.p, self.scale, self.ratio = p, scale, ratio

    def augment(self, images: Tensor, u: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        (low, high), (flat, tall) = self.scale, map(math.log, self.ratio)
        area = height * width * (low + (high - low) * u[:, 1 : 1 + self.tries])
        shape = (flat + (tall - flat) * u[:, 1 + self.tries : 1 + 2 * self.tries]).exp()
        rows, columns = (area * shape).sqrt().round().long(), (area / shape).sqrt().round().long()
        fits = (rows < height) & (columns < width)
        first = fits.int().argmax(dim=1, keepdim=True)  # of the tries that fit
        erased = fits.any(dim=1) & (u[:, 0] < self.p)
        rows, columns = (sides.gather(1, first)[:, 0] * erased for sides in (rows, columns))
        top, left = integers(u[:, -2], height - rows + 1), integers(u[:, -1], width - columns + 1)
        return self.erase(images, top, top + rows, left, left + columns)
