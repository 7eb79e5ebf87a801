"""TrivialAugmentWide against torchvision's: the same operations, magnitudes and pixels, drawn as often."""

from collections import Counter
from functools import cache

import pytest
import torch
from scipy.stats import chisquare
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from src.augment import TrivialAugmentWide
from src.augment.operations import OPERATIONS as ALL
from src.augment.trivialaugment import OPERATION_COUNT, SPACE

OPERATIONS, BINS = ALL[:OPERATION_COUNT], SPACE.bins

# The reference's own space and dispatch, rather than a copy of them here: only so can a wrong magnitude show.
REFERENCE = v2.TrivialAugmentWide()
REFERENCE_SPACE = REFERENCE._AUGMENTATION_SPACE


@cache
def pictures(height: int, width: int) -> Tensor:
    """Photographs, noise, gradients and single colours, uint8 [14, 3, height, width]."""
    photographs = [torch.from_numpy(photo.copy()).permute(2, 0, 1) for photo in load_sample_images().images]
    generator = torch.Generator().manual_seed(0)
    across, down = torch.linspace(0, 255, width), torch.linspace(0, 255, height)[:, None]
    ramps = torch.stack([across.expand(height, width), down.expand(height, width), (across + 255 - down) / 2])
    images = [
        *(F.resize(photo, [height, width], antialias=True) for photo in photographs),
        *(F.center_crop(photo, [height, width]) for photo in photographs),
        torch.randint(0, 256, (3, height, width), generator=generator),
        torch.randint(90, 130, (3, height, width), generator=generator),
        ramps,
        ramps.flip(0) / 3 + 40,
        *(torch.full((3, height, width), value) for value in (0, 1, 127, 254, 255)),
        torch.tensor([200, 100, 7])[:, None, None].expand(3, height, width),
    ]
    return torch.stack([image.to(torch.uint8) for image in images])


def uniforms(operation: str, level: int, negative: bool) -> Tensor:
    """The row of u that draws exactly this, float32 [3]."""
    return torch.tensor(
        [
            (OPERATIONS.index(operation) + 0.5) / len(OPERATIONS),
            (level + 0.5) / BINS,
            0.25 if negative else 0.75,
        ]
    )


def reference(images: Tensor, operation: str, level: int, negative: bool) -> Tensor:
    magnitudes, signed = REFERENCE_SPACE[operation]
    levels = magnitudes(REFERENCE.num_magnitude_bins, *images.shape[-2:])
    magnitude = 0.0 if levels is None else float(levels[level]) * (-1 if signed and negative else 1)
    return REFERENCE._apply_image_or_video_transform(
        images, operation, magnitude, interpolation=REFERENCE.interpolation, fill=REFERENCE._fill
    )


def test_the_space_is_torchvisions() -> None:
    assert sorted(OPERATIONS) == sorted(REFERENCE_SPACE)
    assert REFERENCE.num_magnitude_bins == BINS


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (9, 13)], ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_pixel_equals_torchvisions(operation: str, size: tuple[int, int]) -> None:
    """All magnitudes in both directions: one batch for us, a call each for the reference; no tolerance."""
    images = pictures(*size)
    settings = [(level, negative) for level in range(BINS) for negative in (False, True)]
    u = torch.stack([uniforms(operation, *setting) for setting in settings]).repeat_interleave(len(images), 0)
    result = TrivialAugmentWide()(images.repeat(len(settings), 1, 1, 1), u).split(len(images))
    for setting, ours in zip(settings, result, strict=True):
        theirs = reference(images, operation, *setting)
        assert torch.equal(ours, theirs), f"bin and direction {setting}: {(ours != theirs).sum()} pixels differ"


def forms(image: Tensor) -> Counter[bytes]:
    """Everything the policy can make of an image, and how many of the 868 equally likely draws make it."""
    draws = [(op, level, neg) for op in OPERATIONS for level in range(BINS) for neg in (False, True)]
    u = torch.stack([uniforms(*draw) for draw in draws])
    return Counter(form.numpy().tobytes() for form in TrivialAugmentWide()(image.expand(len(u), -1, -1, -1), u))


def p_value(drawn: Counter[bytes], possible: Counter[bytes]) -> float:
    """How well counts of drawn forms fit the frequencies of the possible ones (chi-square)."""
    assert drawn.keys() <= possible.keys(), "something was drawn that is not among the possible"
    scale = drawn.total() / possible.total()
    return chisquare([drawn[form] for form in possible], [n * scale for n in possible.values()]).pvalue


def test_operation_magnitude_and_direction_are_uniform_and_independent(noise: Tensor) -> None:
    """Over all combinations: if these are equally frequent, no draw is skewed or depends on another."""
    image = noise[0]
    u = torch.rand(10_000, 3, generator=torch.Generator().manual_seed(0))
    drawn = TrivialAugmentWide()(image.expand(len(u), -1, -1, -1), u)
    possible = forms(image)
    assert len(possible) > 500  # few combinations that differ look alike on noise
    assert p_value(Counter(form.numpy().tobytes() for form in drawn), possible) > 0.01


def test_torchvision_draws_the_same_forms_as_often(noise: Tensor) -> None:
    image = noise[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = Counter(REFERENCE(image).numpy().tobytes() for _ in range(5000))
    assert p_value(drawn, forms(image)) > 0.01


def test_direction_is_negative_up_to_one_half(noise: Tensor) -> None:
    """torchvision negates where its own uniform number is at most 0.5."""
    image = noise[:1]
    u = uniforms("TranslateX", 10, negative=True)[None]
    for number, negative in ((0.0, True), (0.5, True), (0.5 + 2**-24, False), (1 - 2**-24, False)):
        u[:, 2] = number
        assert torch.equal(TrivialAugmentWide()(image, u), reference(image, "TranslateX", 10, negative))
