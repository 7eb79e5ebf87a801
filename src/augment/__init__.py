"""Train-time augmentation of whole uint8 batches, every image with its own random parameters.

A transform takes a batch and a table of uniform numbers with one row per image, and is a pure function of the
two: whoever owns the table owns the randomness. To add a transform, subclass :class:`Transform`.
"""

from src.augment.crop import RandomCrop
from src.augment.flip import RandomHorizontalFlip
from src.augment.pipeline import Pipeline
from src.augment.transform import Transform
from src.augment.trivialaugment import TrivialAugmentWide

__all__ = ["Pipeline", "RandomCrop", "RandomHorizontalFlip", "Transform", "TrivialAugmentWide"]
