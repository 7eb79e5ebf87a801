"""The base class of augmentations: a function of a batch of images and their uniform random numbers."""

from typing import TYPE_CHECKING, Optional

from torch import Tensor, float32, int64, nn, uint8

if TYPE_CHECKING:
    from src.augment.mixing import Mixing


class Transform(nn.Module):
    """A batched augmentation without its own randomness.

    A subclass sets ``draws`` and implements :meth:`augment`, which gets checked arguments.

    Attributes:
        draws: number of uniform numbers that the transform needs per image.
    """

    draws: int = 0

    @property
    def mixing(self) -> Optional["Mixing"]:
        """What mixes the augmented images with each other, if anything does."""
        return None

    def forward(self, images: Tensor, u: Tensor) -> Tensor:
        """Augment every image with its own row of uniform numbers.

        Args:
            images: uint8 ``[B, 3, H, W]``, values 0 to 255, on any device; never modified.
            u: float32 ``[B, draws]`` in ``[0, 1)``, always on the CPU: the host then knows the operation of
                every image without waiting for the device.

        Returns:
            A new uint8 tensor of the same shape on the images' device.

        Raises:
            ValueError: if ``images``, ``u`` or the result is not of this form.
        """
        if images.dtype != uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be uint8 [B, 3, H, W], got {images.dtype} {list(images.shape)}.")
        expected = [len(images), self.draws]
        if u.dtype != float32 or list(u.shape) != expected or u.device.type != "cpu":
            raise ValueError(
                f"u must be float32 {expected} on the CPU, one row per image and {self.draws} columns for "
                f"{type(self).__name__}, got {u.dtype} {list(u.shape)} on {u.device}."
            )
        if u.numel() and not (u.min() >= 0 and u.max() < 1):  # written so that NaN fails too
            raise ValueError(f"u must lie in [0, 1), got values from {u.min():g} to {u.max():g}.")
        augmented = self.augment(images, u)
        if not isinstance(augmented, Tensor) or augmented.dtype != uint8 or augmented.shape != images.shape:
            is_tensor = isinstance(augmented, Tensor)
            found = f"{augmented.dtype} {list(augmented.shape)}" if is_tensor else type(augmented).__name__
            raise ValueError(
                f"{type(self).__name__} should turn uint8 {list(images.shape)} into the same, but it returned {found}."
            )
        return augmented

    def augment(self, images: Tensor, u: Tensor) -> Tensor:
        """The transform itself, with the arguments and the result of :meth:`forward`."""
        raise NotImplementedError


def integers(u: Tensor, count: int | Tensor) -> Tensor:
    """Turn uniform numbers into uniform integers.

    Never reaches ``count``: the largest float32 below 1, times a ``count`` up to 2**24, rounds to below it.

    Args:
        u: float32 of any shape, in ``[0, 1)``.
        count: the number of integers to choose from; one for all, or one for each.

    Returns:
        int64 of the same shape, values ``0`` to ``count - 1``.
    """
    return (u * count).to(int64)
