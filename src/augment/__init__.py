# ruff: noqa: F401
"""Train-time augmentation of whole uint8 batches, every image with its own random parameters.

A transform is a pure function of a batch and a table of uniform numbers with one row per image. To add one,
subclass :class:`Transform`. Read ``transform.py`` first. Imports no other package of ``src``.
"""

from src.augment.autoaugment import AutoAugment
from src.augment.crop import RandomCrop
from src.augment.erase import Cutout, RandomErasing
from src.augment.flip import RandomHorizontalFlip
from src.augment.mixing import Alternate, CutMix, Mixing, Mixup
from src.augment.pipeline import Pipeline
from src.augment.randaugment import RandAugment
from src.augment.transform import Transform
from src.augment.trivialaugment import TrivialAugmentWide
