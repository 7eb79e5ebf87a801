"""Random images, for measuring speed, which does not depend on the content of images."""

from dataclasses import dataclass

import torch

from src.data.image_set import ImageSet, LabelledImages


@dataclass(frozen=True)
class Noise:
    """Random images in the shape of CIFAR-10, for measuring speed. There is nothing to learn.

    Args:
        train_images, test_images: numbers of images.
        image_size: side of the square images.
        num_classes: labels are 0 to ``num_classes - 1``, in turn.
    """

    train_images: int = 50_000
    test_images: int = 10_000
    image_size: int = 32
    num_classes: int = 10

    def load(self) -> LabelledImages:
        """Make the images, identical in every call.

        Returns:
            images uint8 ``[N, 3, S, S]``, uniform over 0 to 255; labels int64 ``[N]``.
        """
        generator = torch.Generator().manual_seed(0)

        def half(count: int) -> ImageSet:
            shape = (count, 3, self.image_size, self.image_size)
            images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
            return ImageSet(images, torch.arange(count) % self.num_classes)

        return LabelledImages(half(self.train_images), half(self.test_images), tuple(map(str, range(self.num_classes))))
