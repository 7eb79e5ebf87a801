"""A chain of transforms."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from src.augment.mixing import Mixing
from src.augment.transform import Transform


class Pipeline(Transform):
    """Apply ``transforms`` in order, and pass them the columns of ``u`` in the same order.

    Args:
        transforms: the transforms; an empty sequence does not change the images and needs no draws. The last one may be
            a :class:`Mixing`, which becomes ``mixing`` and is not applied here: it needs the labels.

    Raises:
        ValueError: a transform comes after one that mixes images.
    """

    def __init__(self, transforms: Sequence[Transform | Mixing] = ()) -> None:
        super().__init__()
        for earlier, later in pairwise(transforms):
            if earlier.mixing is not None:
                raise ValueError(
                    f"aug.transforms has {type(earlier).__name__} before {type(later).__name__}, but a transform that "
                    "mixes images must be the last one: what it makes are no longer images of one class each."
                )
        self.transforms = nn.ModuleList(transforms)
        self._chain = [transform for transform in transforms if not isinstance(transform, Mixing)]
        self._shares = [transform.draws for transform in self._chain]
        self.draws = sum(self._shares)

    @property
    def mixing(self) -> Mixing | None:
        return self.transforms[-1].mixing if len(self.transforms) else None  # type: ignore[return-value]

    def augment(self, images: Tensor, u: Tensor) -> Tensor:
        if not self._chain:
            return images.clone()
        for transform, own_u in zip(self._chain, u.split(self._shares, dim=1), strict=True):
            images = transform(images, own_u)
        return images
