import pytest
import torch
from sklearn.datasets import load_digits

from src.data.digits import Digits


@pytest.mark.parametrize("size", [8, 11, 32])
def test_delivers_uint8_rgb_images_of_the_size_asked_for(size: int) -> None:
    digits = Digits(image_size=size).load()
    for half, count in ((digits.train, 1438), (digits.test, 359)):
        assert half.images.shape == (count, 3, size, size)
        assert half.images.dtype == torch.uint8 and half.images.is_contiguous()
        assert half.labels.dtype == torch.int64 and half.labels.unique().tolist() == list(range(10))
        assert torch.equal(half.images[:, 0], half.images[:, 1])
        assert torch.equal(half.images[:, 0], half.images[:, 2])
        assert half.images.min() == 0 and half.images.max() == 255
    assert digits.classes == tuple("0123456789")


def test_at_the_native_size_every_original_image_comes_back_once() -> None:
    digits = Digits(image_size=8).load()
    ours = torch.cat([digits.train.images, digits.test.images])[:, 0].double() * (16 / 255)
    originals = torch.from_numpy(load_digits().images)
    assert sorted(ours.round().flatten(1).tolist()) == sorted(originals.flatten(1).tolist())


def test_the_split_is_fixed_and_stratified() -> None:
    first, second = Digits(8).load(), Digits(8).load()
    assert torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.test.labels, second.test.labels)
    in_train, in_test = first.train.labels.bincount(), first.test.labels.bincount()
    assert ((in_train + in_test) * (359 / 1797) - in_test).abs().max() < 1


@pytest.mark.parametrize("size", [7, 0, -8, 32.5])
def test_a_size_that_would_lose_pixels_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"must be a whole number >= 8, but it is {size}\.$"):
        Digits(image_size=size).load()
