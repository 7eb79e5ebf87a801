"""RandAugment: several random operations of one strength per image."""

from torch import Tensor

from src.augment.operations import OPERATIONS, Space, apply
from src.augment.transform import Transform, integers

SPACE = Space(bins=31, shear=0.3, shift=lambda side: 150 / 331 * side, degrees=30, change=0.9, bits=4)
OPERATION_COUNT = OPERATIONS.index("Invert")


class RandAugment(Transform):
    """Apply ``n`` operations of magnitude ``m`` to every image; operations and directions are uniformly random.

    RandAugment (Cubuk et al., 2019, https://arxiv.org/abs/1909.13719) in the space of torchvision's class, with its
    defaults: 14 operations, nearest neighbour, black fill. Images must be at least 3 x 3.

    Args:
        n: number of operations, 1 or more.
        m: magnitude, a whole number from 0 (weakest) to 30.

    Raises:
        ValueError: ``n`` or ``m`` is not such a number.
    """

    def __init__(self, n: int = 2, m: int = 9) -> None:
        super().__init__()
        if not isinstance(n, int) or n < 1:
            raise ValueError(f"RandAugment's n is {n!r}; expected a number of operations, 1 or more.")
        if not isinstance(m, int) or not 0 <= m < SPACE.bins:
            raise ValueError(f"RandAugment's m is {m!r}; expected a whole number from 0 to {SPACE.bins - 1}.")
        self.n = n
        self.m = m
        self.draws = 2 * n

    def augment(self, images: Tensor, u: Tensor) -> Tensor:
        for own_u in u.split(2, dim=1):
            choice, direction = own_u.unbind(1)
            setting = 2 * self.m + (direction <= 0.5)
            images = apply(images, integers(choice, OPERATION_COUNT), setting, SPACE)
        return images
