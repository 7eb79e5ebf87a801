import pytest
import torch

from src.augment.corruptions import CORRUPTIONS, SEVERITIES


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Smooth images, uint8 [6, 3, 32, 32]."""
    coarse = torch.rand(6, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return (255 * torch.nn.functional.interpolate(coarse, size=32, mode="bicubic").clamp(0, 1)).to(torch.uint8)


POSITIONS = torch.arange(6)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_severity_does_more_harm_and_is_repeatable(images: torch.Tensor, name: str) -> None:
    before = images.clone()
    harm = [0.0]
    for severity in SEVERITIES:
        harmed = CORRUPTIONS[name](images, POSITIONS, severity)
        assert harmed.shape == images.shape and harmed.dtype == torch.uint8
        assert torch.equal(harmed, CORRUPTIONS[name](images, POSITIONS, severity))
        parts = [CORRUPTIONS[name](images[i : i + 2], POSITIONS[i : i + 2], severity) for i in (0, 2, 4)]
        assert torch.equal(harmed, torch.cat(parts)), "an image's fate does not depend on its batch"
        harm.append((harmed.float() - images.float()).square().mean().item())
    assert harm == sorted(set(harm)) and torch.equal(images, before)


def test_noise_has_the_strength_it_is_said_to_have_and_differs_by_image(images: torch.Tensor) -> None:
    grey = torch.full((6, 3, 32, 32), 128, dtype=torch.uint8)
    noise = CORRUPTIONS["gaussian_noise"](grey, POSITIONS, 5).float() - 128
    assert noise.std().item() == pytest.approx(0.1 * 255, rel=0.02)
    assert not torch.equal(noise[0], noise[1])


def test_contrast_shrinks_towards_each_channels_mean(images: torch.Tensor) -> None:
    harmed = CORRUPTIONS["contrast"](images, POSITIONS, 2).float()
    mean = images.float().mean(dim=(2, 3), keepdim=True)
    assert torch.allclose(harmed, mean + 0.5 * (images.float() - mean), atol=0.51)
