"""Random images, the same every time."""

import torch

from src.data.noise import Noise


def test_images_have_the_form_that_sources_deliver() -> None:
    noise, again = Noise(20, 5, image_size=8).load(), Noise(20, 5, image_size=8).load()
    assert noise.train.images.shape == (20, 3, 8, 8) and noise.test.images.shape == (5, 3, 8, 8)
    assert noise.train.images.dtype == torch.uint8 and noise.train.labels.dtype == torch.int64
    assert noise.classes == tuple("0123456789") and noise.train.labels.bincount().tolist() == [2] * 10
    assert torch.equal(noise.train.images, again.train.images)
    assert not torch.equal(noise.train.images[:5], noise.test.images)
