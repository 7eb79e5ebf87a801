"""Images by the batch."""

import torch
from torch import Tensor

from src.data.image_set import ImageSet, LabelledImages, digest


def images(count: int) -> ImageSet:
    return ImageSet(torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 8, 8), torch.arange(count))


def test_a_batch_is_fetched_by_index_and_names_the_images_of_the_store() -> None:
    selected = images(10).select(torch.tensor([7, 2, 5]))
    pixels, labels, positions = selected.__getitems__([2, 0])
    assert labels.tolist() == positions.tolist() == [5, 7]
    assert pixels[:, 0, 0, 0].tolist() == [5, 7]


def test_a_selection_shares_the_memory_of_the_store() -> None:
    everything = images(4)
    assert everything.select(torch.tensor([1])).images.data_ptr() == everything.images.data_ptr()


def test_a_sample_is_spread_evenly() -> None:
    assert images(100).sample(4)[1].tolist() == [0, 33, 66, 99]
    assert images(3).sample(8)[1].tolist() == [0, 1, 2]


def test_the_content_follows_from_images_labels_and_classes() -> None:
    def content(images: Tensor, labels: Tensor, *classes: str) -> str:
        half = ImageSet(images, labels)
        return LabelledImages(half, half, classes).content

    images = torch.randint(0, 256, (5, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 0, 1, 1])
    one = content(images, labels, "cat", "dog")
    assert one == content(images.clone(), labels.clone(), "cat", "dog") and len(one) == 64
    others = [(images.flip(0), labels), (images, labels.flip(0)), (images[:4], labels[:4]), (images.mT, labels)]
    assert len({one, content(images, labels, "dog", "cat"), *(content(*other, "cat", "dog") for other in others)}) == 6


def test_the_digest_of_a_large_tensor_covers_all_of_it() -> None:
    pixels = torch.zeros(2**24 + 3, dtype=torch.uint8)
    before = digest(pixels)
    pixels[-1] = 1
    assert digest(pixels) != before
