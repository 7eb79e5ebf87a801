"""Mix every image with another one of its batch, and their labels likewise: mixup and CutMix.

Unlike a :class:`Transform`, which makes uint8 images, these end a chain: their images are float, and their labels are
probabilities.
"""

from collections.abc import Sequence

import torch
from scipy.special import betaincinv
from torch import Tensor, nn

from src.augment import kernels
from src.augment.transform import integers


class Mixing(nn.Module):
    """A blend of every image with its partner.

    A subclass sets ``draws`` and implements :meth:`weights`.

    Attributes:
        draws: number of uniform numbers that it needs per image.
    """

    draws: int = 0

    @property
    def mixing(self) -> "Mixing":
        """Itself, see :class:`~src.augment.Transform`."""
        return self

    def weights(self, u: Tensor, images: Tensor) -> Tensor:
        """The weight of the image itself, by pixel; the rest is its partner's.

        Args:
            u: float32 ``[B, draws]`` in ``[0, 1)``, on the CPU.
            images: ``[B, 3, H, W]``, for their size and device.

        Returns:
            float32 ``[B, 1, H, W]`` or ``[B, 1, 1, 1]``, 0 to 1.
        """
        raise NotImplementedError

    def forward(
        self, images: Tensor, labels: Tensor, partners: Tensor, partner_labels: Tensor, u: Tensor, num_classes: int
    ) -> tuple[Tensor, Tensor]:
        """Mix.

        Args:
            images, partners: uint8 ``[B, 3, H, W]``, in pairs.
            labels, partner_labels: int64 ``[B]``.
            u: see :meth:`weights`.
            num_classes: columns of the result.

        Returns:
            images float32 ``[B, 3, H, W]``, values 0 to 255, and probabilities float32 ``[B, num_classes]``: the mean
            weights of the two images.
        """
        weights = self.weights(u, images)
        mixed = torch.lerp(partners.float(), images.float(), weights)
        share = weights.mean(dim=(1, 2, 3))[:, None]
        probabilities = share.new_zeros(len(labels), num_classes)
        probabilities.scatter_add_(1, labels[:, None], share)
        probabilities.scatter_add_(1, partner_labels[:, None], 1 - share)
        return mixed, probabilities


class _Beta(Mixing):
    """A mixing by Beta(alpha, alpha) distributed numbers."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        if not isinstance(alpha, int | float) or not alpha > 0:
            raise ValueError(f"alpha is {alpha!r}; expected a number above 0.")
        self.alpha = alpha

    def beta(self, u: Tensor) -> Tensor:
        """Turn uniform numbers into Beta(alpha, alpha) distributed ones, by its quantile function."""
        a = self.alpha
        return u if a == 1 else torch.from_numpy(betaincinv(a, a, u.double().numpy())).float()


class Mixup(_Beta):
    """A weighted mean of two images; the weight of every pair is Beta(alpha, alpha) distributed.

    mixup (Zhang et al., 2017, https://arxiv.org/abs/1710.09412); there and in torchvision a batch has one weight.

    Args:
        alpha: above 0; the paper takes 1 for CIFAR-10.

    Raises:
        ValueError: ``alpha`` is not above 0.
    """

    draws = 1

    def weights(self, u: Tensor, images: Tensor) -> Tensor:
        return self.beta(u).to(images.device, non_blocking=True)[:, :, None, None]


class CutMix(_Beta):
    """A rectangle of the partner in the image; its area is one minus a Beta(alpha, alpha) distributed number.

    CutMix (Yun et al., 2019, https://arxiv.org/abs/1905.04899): a rectangle of the image's shape around a uniformly
    random pixel, of which only what lies inside the image counts; there and in torchvision a batch has one rectangle.

    Args:
        alpha: above 0; the paper takes 1.

    Raises:
        ValueError: ``alpha`` is not above 0.
    """

    draws = 3

    def weights(self, u: Tensor, images: Tensor) -> Tensor:
        side = (1 - self.beta(u[:, 0])).sqrt() / 2
        bounds = []
        for i, size in enumerate(images.shape[-2:]):
            centre, half = integers(u[:, 1 + i], size), (side * size).long()
            bounds += [centre - half, centre + half]
        inside = kernels.rectangles(torch.stack(bounds).to(images.device, non_blocking=True), *images.shape[-2:])
        return (~inside).float()


class Alternate(Mixing):
    """One of several mixings for every image, with equal probability.

    Args:
        mixings: such as ``Mixup`` and ``CutMix``.

    Raises:
        ValueError: there is none, or something else among them.
    """

    def __init__(self, mixings: Sequence[Mixing]) -> None:
        super().__init__()
        if not mixings or not all(isinstance(mixing, Mixing) for mixing in mixings):
            names = ", ".join(type(mixing).__name__ for mixing in mixings) or "nothing"
            raise ValueError(f"Alternate got {names}; expected transforms that mix images, such as Mixup and CutMix.")
        self.mixings = nn.ModuleList(mixings)
        self.shares = [mixing.draws for mixing in mixings]
        self.draws = 1 + sum(self.shares)

    def weights(self, u: Tensor, images: Tensor) -> Tensor:
        choice = integers(u[:, 0], len(self.mixings)).to(images.device, non_blocking=True)[:, None, None, None]
        weights = images.new_zeros((), dtype=torch.float32)
        for i, own_u in enumerate(u[:, 1:].split(self.shares, dim=1)):
            weights = self.mixings[i].weights(own_u, images).where(choice == i, weights)  # type: ignore[operator]
        return weights
