"""RandAugment and AutoAugment against torchvision's: the same operations, magnitudes and pixels, drawn as often."""

from collections import Counter
from itertools import product

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor
from torchvision.transforms import v2

from src.augment import AutoAugment, RandAugment
from src.augment.autoaugment import SPACE as AUTO
from src.augment.operations import OPERATIONS, Space, apply
from src.augment.randaugment import OPERATION_COUNT
from src.augment.randaugment import SPACE as RAND
from tests.augment.test_trivialaugment import pictures

REFERENCES = {
    "randaugment": (v2.RandAugment(), RAND),
    "autoaugment": (v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10), AUTO),
}


def reference(theirs: v2.Transform, images: Tensor, operation: str, level: int, bins: int, negative: bool) -> Tensor:
    magnitudes, signed = theirs._AUGMENTATION_SPACE[operation]
    levels = magnitudes(bins, *images.shape[-2:])
    magnitude = 0.0 if levels is None else float(levels[level]) * (-1 if signed and negative else 1)
    return theirs._apply_image_or_video_transform(
        images, operation, magnitude, interpolation=theirs.interpolation, fill=theirs._fill
    )


@pytest.mark.parametrize(("theirs", "space"), REFERENCES.values(), ids=REFERENCES)
def test_every_pixel_equals_torchvisions(theirs: v2.Transform, space: Space) -> None:
    """All operations and magnitudes in both directions; no tolerance.

    Numbers of pixels are multiples of 8: torch itself rounds differently in what is left over from whole vectors.
    """
    for size, operation in product(((32, 32), (24, 16)), theirs._AUGMENTATION_SPACE):
        images = pictures(*size)
        settings = torch.arange(2 * space.bins).repeat_interleave(len(images))
        operations = torch.full_like(settings, OPERATIONS.index(operation))
        result = apply(images.repeat(2 * space.bins, 1, 1, 1), operations, settings, space).split(len(images))
        for setting, ours in enumerate(result):
            expected = reference(theirs, images, operation, setting // 2, space.bins, bool(setting % 2))
            assert torch.equal(ours, expected), f"{operation} of {size}, setting {setting}"


def test_the_spaces_are_torchvisions() -> None:
    rand, auto = v2.RandAugment(), v2.AutoAugment()
    assert sorted(OPERATIONS[:OPERATION_COUNT]) == sorted(rand._AUGMENTATION_SPACE)
    assert {"Identity", *auto._AUGMENTATION_SPACE} == set(OPERATIONS)
    assert (RandAugment().n, RandAugment().m, RAND.bins) == (rand.num_ops, rand.magnitude, rand.num_magnitude_bins)


@pytest.mark.parametrize("policy", ["cifar10", "svhn", "imagenet"])
def test_the_pairs_are_torchvisions(policy: str) -> None:
    ours = AutoAugment(policy)
    for i, pair in enumerate(v2.AutoAugment(v2.AutoAugmentPolicy(policy))._policies):
        for k, (name, probability, level) in enumerate(pair):
            assert OPERATIONS[ours.operations[i, k]] == name and ours.bins[i, k] == (level or 0)
            assert ours.probabilities[i, k].item() == pytest.approx(probability)


def p_value(ours: Counter[bytes], theirs: Counter[bytes]) -> float:
    """Whether two samples of equal size are of one distribution (chi-square); rare forms count together."""
    common = [form for form in ours | theirs if ours[form] + theirs[form] >= 20]
    table = [(ours[form], theirs[form]) for form in common]
    rest = ours.total() - sum(a for a, _ in table), theirs.total() - sum(b for _, b in table)
    pairs = [*table, rest] if sum(rest) else table
    statistic = sum((a - b) ** 2 / (a + b) for a, b in pairs)
    return float(chi2.sf(statistic, len(pairs) - 1))


@pytest.mark.parametrize("name", ["randaugment", "autoaugment"])
def test_torchvision_draws_the_same_forms_as_often(name: str, noise: Tensor) -> None:
    ours = {"randaugment": RandAugment(n=1), "autoaugment": AutoAugment()}[name]
    theirs = {"randaugment": v2.RandAugment(num_ops=1), "autoaugment": v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)}[
        name
    ]
    image, count = noise[0, :, :8, :8].contiguous(), 6000
    u = torch.rand(count, ours.draws, generator=torch.Generator().manual_seed(0))
    drawn = Counter(form.numpy().tobytes() for form in ours(image.expand(count, -1, -1, -1), u))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = Counter(theirs(image).numpy().tobytes() for _ in range(count))
    assert len(drawn) > 15 and p_value(drawn, expected) > 0.01


def test_randaugment_applies_n_operations_in_turn(noise: Tensor) -> None:
    u = torch.rand(len(noise), 6, generator=torch.Generator().manual_seed(0))
    one = RandAugment(n=1, m=20)
    assert torch.equal(RandAugment(n=3, m=20)(noise, u), one(one(one(noise, u[:, :2]), u[:, 2:4]), u[:, 4:]))


def test_a_wrong_setting_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match="RandAugment's n is 0; expected a number of operations, 1 or more"):
        RandAugment(n=0)
    with pytest.raises(ValueError, match="RandAugment's m is 31; expected a whole number from 0 to 30"):
        RandAugment(m=31)
    with pytest.raises(ValueError, match="policy is 'cifar'; expected one of cifar10, imagenet, svhn"):
        AutoAugment("cifar")
