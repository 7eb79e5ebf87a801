"""AutoAugment: a learned policy, of which every image gets two operations."""

import torch
from torch import Tensor
from torchvision.transforms import AutoAugment as Torchvisions
from torchvision.transforms import AutoAugmentPolicy

from src.augment.operations import OPERATIONS, Space, apply
from src.augment.transform import Transform, integers

SPACE = Space(bins=10, shear=0.3, shift=lambda side: 150 / 331 * side, degrees=30, change=0.9, bits=4)


class AutoAugment(Transform):
    """Apply a random pair of operations of the policy to every image, each with its probability.

    AutoAugment (Cubuk et al., 2018, https://arxiv.org/abs/1805.09501) with the pairs and the space of torchvision's
    class, and its defaults: nearest neighbour, black fill. Directions are random. Images must be at least 3 x 3.

    Args:
        policy: ``"cifar10"``, ``"svhn"`` or ``"imagenet"``: the data that it was learned on.

    Raises:
        ValueError: there is no such policy.
    """

    draws = 5  # the pair; for each of its operations, whether it is applied, and its direction

    def __init__(self, policy: str = "cifar10") -> None:
        super().__init__()
        known = [each.value for each in AutoAugmentPolicy]
        if policy not in known:
            raise ValueError(f"AutoAugment's policy is {policy!r}; expected one of {', '.join(sorted(known))}.")
        pairs = Torchvisions(AutoAugmentPolicy(policy)).policies
        self.operations = torch.tensor([[OPERATIONS.index(name) for name, _, _ in pair] for pair in pairs])
        self.probabilities = torch.tensor([[p for _, p, _ in pair] for pair in pairs])
        self.bins = torch.tensor([[level or 0 for _, _, level in pair] for pair in pairs])

    def augment(self, images: Tensor, u: Tensor) -> Tensor:
        pair = integers(u[:, 0], len(self.operations))
        for i, own_u in enumerate(u[:, 1:].split(2, dim=1)):
            chance, direction = own_u.unbind(1)
            skipped = chance > self.probabilities[pair, i]
            operation = self.operations[pair, i].masked_fill(skipped, OPERATIONS.index("Identity"))
            images = apply(images, operation, 2 * self.bins[pair, i] + (direction <= 0.5), SPACE)
        return images
