"""scikit-learn's handwritten digits: a real data set that needs no download."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from src.data.image_set import ImageSet, LabelledImages
from src.data.splits import stratified_split

NATIVE_SIZE = 8
TEST_FRACTION = 0.2
SPLIT_SEED = 0  # the data set has no test set; this seed defines one


@dataclass(frozen=True)
class Digits:
    """1,797 grey 8 x 8 digits, enlarged bilinearly to ``image_size``, in three equal channels.

    Args:
        image_size: side of the square images, at least 8; at 8 the pixels are unchanged.
    """

    image_size: int = 32

    def load(self) -> LabelledImages:
        """Read the digits and cut the fixed, stratified 80/20 split into train and test.

        Returns:
            images uint8 ``[1438, 3, S, S]`` and ``[359, 3, S, S]``, values 0 to 255; classes "0" to "9".

        Raises:
            ValueError: ``image_size`` is not a whole number of at least 8. It is raised here and not in the
                constructor, where Hydra would wrap the message.
        """
        if not isinstance(self.image_size, int) or self.image_size < NATIVE_SIZE:
            raise ValueError(
                f"The digits are {NATIVE_SIZE} x {NATIVE_SIZE} images and can only be enlarged, "
                f"so data.image_size must be a whole number >= {NATIVE_SIZE}, but it is {self.image_size}."
            )
        digits = load_digits()
        grey = torch.from_numpy(digits.images).float().unsqueeze(1) * (255 / 16)  # stored as 0 to 16
        grey = F.interpolate(grey, size=(self.image_size, self.image_size), mode="bilinear")
        images = grey.round().to(torch.uint8).expand(-1, 3, -1, -1)
        labels = torch.from_numpy(digits.target).long()
        halves = stratified_split(labels, torch.arange(len(labels)), TEST_FRACTION, SPLIT_SEED)
        train, test = (ImageSet(images[half].contiguous(), labels[half]) for half in halves)
        return LabelledImages(train, test, tuple(map(str, digits.target_names)))
