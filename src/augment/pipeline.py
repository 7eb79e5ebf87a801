"""A sequence of transforms."""

from collections.abc import Sequence

from torch import Tensor, nn

from src.augment.transform import Transform


class Pipeline(Transform):
    """Apply ``transforms`` in order, and pass them the columns of ``u`` in the same order.

    Args:
        transforms: the transforms; an empty sequence does not change the images and needs no draws.
    """

    def __init__(self, transforms: Sequence[Transform] = ()) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self.shares = [transform.draws for transform in transforms]
        self.draws = sum(self.shares)

    def augment(self, images: Tensor, u: Tensor) -> Tensor:
        if not self.shares:
            return images.clone()
        for transform, own_u in zip(self.transforms, u.split(self.shares, dim=1), strict=True):
            images = transform(images, own_u)
        return images
