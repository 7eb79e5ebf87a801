"""Images by the batch."""

import torch

from src.data.image_set import ImageSet


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
