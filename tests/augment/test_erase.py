import math

import pytest
import torch
from scipy.stats import binomtest, ks_2samp
from torch import Tensor
from torchvision.transforms.v2 import RandomErasing as Torchvisions
from torchvision.transforms.v2 import functional as F

from src.augment import Cutout, RandomErasing


def test_cutout_erases_a_square_around_every_pixel_with_the_same_probability(noise: Tensor) -> None:
    image = noise[0]
    height, width = image.shape[1:]
    rows, columns = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    u = torch.cartesian_prod(rows, columns)
    colour = [1.0, 0.5, 0.0]
    result = Cutout(4, colour)(image.expand(len(u), -1, -1, -1), u)
    value = torch.tensor([255, 128, 0], dtype=torch.uint8)[:, None, None]
    for place, ours in enumerate(result):
        top, left = place // width - 2, place % width - 2
        i, j = max(top, 0), max(left, 0)
        assert torch.equal(ours, F.erase(image, i, j, min(top + 4, height) - i, min(left + 4, width) - j, value))


def test_cutout_larger_than_the_image_erases_all_of_it(noise: Tensor) -> None:
    with pytest.raises(ValueError, match="Cutout's size is 99, which covers images of"):
        Cutout(99)(noise, torch.full((len(noise), 2), 0.5))


def drawn(white: Tensor) -> tuple[list[int], list[int], list[float], list[float]]:
    """Of images in which something may have been erased: heights, widths, and centres of what was."""
    rows, columns = white.eq(0).any(dim=1).any(dim=2), white.eq(0).any(dim=1).any(dim=1)
    erased = rows.any(dim=1)
    rows, columns = rows[erased].float(), columns[erased].float()
    heights, widths = rows.sum(1), columns.sum(1)
    down, across = ((mask * torch.arange(mask.shape[1])).sum(1) / mask.sum(1) for mask in (rows, columns))
    return heights.int().tolist(), widths.int().tolist(), down.tolist(), across.tolist()


@pytest.mark.parametrize("settings", [{}, {"scale": (0.1, 1.0), "ratio": (0.5, 4.0)}], ids=str)
def test_random_erasing_draws_as_torchvision_does(settings: dict[str, tuple[float, float]]) -> None:
    white = torch.full((3, 16, 24), 255, dtype=torch.uint8)
    ours, theirs = RandomErasing(p=1, **settings), Torchvisions(p=1, **settings)
    u = torch.rand(4000, ours.draws, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = drawn(torch.stack([theirs(white) for _ in range(2000)]))
    for own, other in zip(drawn(ours(white.expand(4000, -1, -1, -1), u)), expected, strict=True):
        assert abs(len(own) / 4000 - len(other) / 2000) < 0.05 and ks_2samp(own, other).pvalue > 0.01


def test_random_erasing_erases_as_often_as_p_and_changes_nothing_else(noise: Tensor) -> None:
    u = torch.rand(4000, RandomErasing.draws, generator=torch.Generator().manual_seed(0))
    images = noise[:1, :, :8, :8].clamp(min=1).expand(4000, -1, -1, -1)
    result = RandomErasing(p=0.3)(images, u)
    changed = (result != images).flatten(1).any(dim=1)
    assert binomtest(int(changed.sum()), 4000, 0.3).pvalue > 0.01
    assert (result.eq(0) | result.eq(images)).all()


def test_a_wrong_setting_gets_a_sentence() -> None:
    for wrong, sentence in (
        (lambda: Cutout(0), "Cutout's size is 0; expected a number of pixels, 1 or more"),
        (lambda: Cutout(fill=[0.1, 0.2]), r"fill is \[0.1, 0.2\]; expected one number or three, from 0"),
        (lambda: Cutout(fill=128), "fill is 128; expected one number or three, from 0"),
        (lambda: RandomErasing(p=math.nan), r"p must be a probability in \[0, 1\], got nan"),
        (lambda: RandomErasing(scale=(0.5, 0.1)), "scale is .* expected two ascending numbers from 0 to 1"),
        (lambda: RandomErasing(ratio=(0, 1)), "ratio is .* expected two ascending numbers above 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            wrong()
