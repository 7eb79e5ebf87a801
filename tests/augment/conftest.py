from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """The images here are too small for a second thread to help, and waiting for a busy core costs a lot."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def noise() -> torch.Tensor:
    """64 images of noise, of a size that is neither square nor a multiple of anything."""
    return torch.randint(0, 256, (64, 3, 15, 22), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
