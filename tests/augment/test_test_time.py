"""Views of an image, and what they say together; by hand-made examples."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from src.augment.test_time import View, ViewAverage

IMAGE = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=torch.uint8).expand(2, 3, 3, 3)


def rows(images: Tensor) -> list[list[int]]:
    """The first channel of the first image, after a look at the others."""
    assert images.shape == (2, 3, 3, 3) and images.eq(images[:1, :1]).all()
    return images[0, 0].tolist()


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (View(), [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
        (View(flip=True), [[3, 2, 1], [6, 5, 4], [9, 8, 7]]),
        (View(down=1), [[4, 5, 6], [1, 2, 3], [4, 5, 6]]),
        (View(down=-1), [[4, 5, 6], [7, 8, 9], [4, 5, 6]]),
        (View(right=1), [[2, 1, 2], [5, 4, 5], [8, 7, 8]]),
        (View(down=1, right=1), [[5, 4, 5], [2, 1, 2], [5, 4, 5]]),
        (View(flip=True, right=1), [[2, 3, 2], [5, 6, 5], [8, 9, 8]]),
        (View(right=2), [[3, 2, 1], [6, 5, 4], [9, 8, 7]]),
    ],
)
def test_a_view_is_exact(view: View, expected: list[list[int]]) -> None:
    before = IMAGE.clone()
    assert rows(view(IMAGE)) == expected and view(IMAGE).dtype == torch.uint8
    assert torch.equal(IMAGE, before)
    assert view(IMAGE.float()).dtype == torch.float32


def test_shifts_are_those_of_torchs_reflect_padding() -> None:
    images = torch.rand(2, 3, 8, 6)
    padded = pad(images, [3] * 4, mode="reflect")
    for down in range(-3, 4):
        for right in range(-3, 4):
            crop = padded[:, :, 3 - down : 11 - down, 3 - right : 9 - right]
            assert torch.equal(View(down=down, right=right)(images), crop)


def test_a_shift_out_of_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="moves the image by 3 pixels, but it has only 3"):
        View(right=-3)(IMAGE)


LOGITS = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]], dtype=torch.float64)  # two views of an image, two classes


def test_probabilities_are_averaged_by_weight() -> None:
    average = ViewAverage((View(), View(True)), (3, 1))
    p, q = 1 / (1 + torch.e**-2), 1 / (1 + torch.e)  # of the first class, in either view
    assert average(LOGITS).exp()[0].tolist() == pytest.approx([(3 * p + q) / 4, 1 - (3 * p + q) / 4])


def test_logits_are_averaged_by_weight() -> None:
    average = ViewAverage((View(), View(True)), (3, 1), "logits")
    assert average(LOGITS).exp()[0].tolist() == pytest.approx([1 / (1 + torch.e**-1.25), 1 / (1 + torch.e**1.25)])


def test_one_view_is_the_network_itself() -> None:
    for averaged in ("probabilities", "logits"):
        assert torch.equal(ViewAverage(averaged=averaged)(LOGITS[:1]), LOGITS[0].log_softmax(dim=-1))


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([], "needs at least one view"),
        ([{}, {"weight": 2}], "each of them once"),
        ([{"weight": 0}], r"weights of the views are \[0\]; expected numbers above 0"),
        ([{"turn": 90}], "has flip, down, right and weight"),
    ],
)
def test_a_setting_that_makes_no_sense(entries: list[dict[str, int]], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ViewAverage.from_config(entries, "probabilities")
