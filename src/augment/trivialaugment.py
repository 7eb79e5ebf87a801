"""TrivialAugment (Wide): one random operation of random strength per image."""

from torch import Tensor

from src.augment.operations import OPERATIONS, Space, apply
from src.augment.transform import Transform, integers

SPACE = Space(bins=31, shear=0.99, shift=lambda side: 32, degrees=135, change=0.99, bits=6)
OPERATION_COUNT = OPERATIONS.index("Invert")


class TrivialAugmentWide(Transform):
    """Apply one operation to every image; operation, magnitude and direction are uniformly random.

    TrivialAugment (Müller & Hutter, 2021, https://arxiv.org/abs/2103.10158) in its wide space, with the
    defaults of torchvision's class: 14 operations, 31 magnitudes, nearest neighbour, black fill.
    Operations without magnitude or direction ignore the draws for them. Images must be at least 3 x 3.
    """

    draws = 3

    def augment(self, images: Tensor, u: Tensor) -> Tensor:
        operation = integers(u[:, 0], OPERATION_COUNT)
        setting = 2 * integers(u[:, 1], SPACE.bins) + (u[:, 2] <= 0.5)  # torchvision also negates at exactly 0.5
        return apply(images, operation, setting, SPACE)
