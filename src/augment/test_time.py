"""Test-time augmentation: the network's predictions for several views of an image, averaged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Averaged = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class View:
    """One view of an image. The default is the image itself.

    Args:
        flip: whether to mirror it left to right, before the shift.
        down, right: the shift in pixels; the edge is filled by reflection.
    """

    flip: bool = False
    down: int = 0
    right: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` of any dtype, on any device; the result has the same shape, dtype and device."""
        if self.flip:
            images = images.flip(-1)
        for dimension, shift in ((-2, self.down), (-1, self.right)):
            if shift:
                images = images.index_select(dimension, _sources(images.shape[dimension], shift, images.device))
        return images


def _sources(size: int, shift: int, device: torch.device) -> Tensor:
    """The source of each row of an image shifted by ``shift``; reflected at the edges without repeating them."""
    if abs(shift) >= size:
        raise ValueError(f"A view moves the image by {abs(shift)} pixels, but it has only {size}.")
    places = (torch.arange(size, device=device) - shift).abs()
    return size - 1 - (size - 1 - places).abs()


@dataclass(frozen=True)
class ViewAverage:
    """A weighted mean over views.

    Args:
        views: the views.
        weights: of the views, above 0; only their ratios matter.
        averaged: whether the mean is of probabilities, or of logits before the softmax.

    Raises:
        ValueError: there are no views, a view is repeated, a weight is not above 0, or ``averaged`` is invalid.
    """

    views: tuple[View, ...] = (View(),)
    weights: tuple[float, ...] = (1.0,)
    averaged: Averaged = "probabilities"

    def __post_init__(self) -> None:
        if not self.views or len(set(self.views)) < len(self.views):
            raise ValueError("Test-time augmentation needs at least one view, and each of them once.")
        if not all(isinstance(weight, int | float) and weight > 0 for weight in self.weights):
            raise ValueError(f"The weights of the views are {list(self.weights)}; expected numbers above 0.")
        if self.averaged not in get_args(Averaged):
            raise ValueError(f"tta.average is {self.averaged!r}; expected one of {', '.join(get_args(Averaged))}.")

    @classmethod
    def from_config(cls, entries: Sequence[Mapping[str, Any]], averaged: Averaged) -> "ViewAverage":
        """Build it from a file of conf/tta: for each view its ``flip``, ``down``, ``right`` and ``weight``."""
        try:
            views = tuple(View(**{k: v for k, v in entry.items() if k != "weight"}) for entry in entries)
        except TypeError:
            raise ValueError(f"A view has flip, down, right and weight; {list(entries)} has something else.") from None
        return cls(views, tuple(entry.get("weight", 1) for entry in entries), averaged)

    def __call__(self, logits: Tensor) -> Tensor:
        """The average over the views.

        Args:
            logits: float ``[V, B, classes]``, in the order of ``views``.

        Returns:
            log-probabilities float ``[B, classes]``.
        """
        weights = torch.tensor(self.weights, dtype=logits.dtype, device=logits.device).view(-1, 1, 1)
        weights = weights / weights.sum()
        if self.averaged == "logits":
            return (weights * logits).sum(dim=0).log_softmax(dim=-1)
        return (logits.log_softmax(dim=-1) + weights.log()).logsumexp(dim=0)
