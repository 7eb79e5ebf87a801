import pytest
import torch


@pytest.fixture
def noise() -> torch.Tensor:
    """64 images of noise, of a size that is neither square nor a multiple of anything."""
    return torch.randint(0, 256, (64, 3, 15, 22), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
