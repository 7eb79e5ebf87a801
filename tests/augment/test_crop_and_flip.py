import pytest
import torch
from scipy.stats import binomtest, chisquare
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from src.augment import RandomCrop, RandomHorizontalFlip


def every_offset(padding: int) -> Tensor:
    """Rows of u, each in the middle of what one pair of offsets is drawn by, float32 [(2p + 1)^2, 2]."""
    middles = (torch.arange(2 * padding + 1) + 0.5) / (2 * padding + 1)
    return torch.cartesian_prod(middles, middles)


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_crop_does_what_torchvision_does_at_every_offset(padding: int, noise: Tensor) -> None:
    image = noise[0]
    u = every_offset(padding)
    size = 2 * padding + 1
    offsets = [(top, left) for top in range(size) for left in range(size)]
    padded = F.pad(image, [padding] * 4)
    expected = torch.stack([F.crop(padded, top, left, *image.shape[1:]) for top, left in offsets])
    assert torch.equal(RandomCrop(padding)(image.expand(len(u), -1, -1, -1), u), expected)


def test_crop_offsets_are_uniform_and_independent(noise: Tensor) -> None:
    image, crop = noise[0, :, :8, :8], RandomCrop(2)
    forms = [form.numpy().tobytes() for form in crop(image.expand(25, -1, -1, -1), every_offset(2))]
    u = torch.rand(5000, 2, generator=torch.Generator().manual_seed(0))
    drawn = [form.numpy().tobytes() for form in crop(image.expand(5000, -1, -1, -1), u)]
    counts = [drawn.count(form) for form in forms]
    assert len(set(forms)) == 25
    assert sum(counts) == 5000
    assert chisquare(counts).pvalue > 0.01


def test_flip_mirrors_below_p_and_only_there(noise: Tensor) -> None:
    u = torch.rand(64, 1, generator=torch.Generator().manual_seed(0))
    result = RandomHorizontalFlip(0.3)(noise, u)
    for image, before, number in zip(result, noise, u, strict=True):
        assert torch.equal(image, F.horizontal_flip(before) if number < 0.3 else before)


def test_flip_never_and_always(noise: Tensor) -> None:
    u = torch.tensor([0.0, 0.5, 1 - 2**-24, 0.2]).repeat(16)[:, None]
    assert torch.equal(RandomHorizontalFlip(0)(noise, u), noise)
    assert torch.equal(RandomHorizontalFlip(1)(noise, u), noise.flip(-1))


def test_flip_is_as_frequent_as_p(noise: Tensor) -> None:
    u = torch.rand(5000, 1, generator=torch.Generator().manual_seed(0))
    images = noise[:1, :, :8, :8].expand(5000, -1, -1, -1)
    changed = (RandomHorizontalFlip(0.5)(images, u) != images).flatten(1).any(dim=1)
    assert binomtest(int(changed.sum()), 5000, 0.5).pvalue > 0.01


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="padding must be 0 or more pixels, got -1"):
        RandomCrop(-1)
    for p in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"p must be a probability in \[0, 1\], got"):
            RandomHorizontalFlip(p)
