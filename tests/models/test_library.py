"""Networks of timm and torchvision by name."""

import pytest
import torch

from src.models.library import timm, vision

VISION = ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "efficientnet_b0", "densenet121",
          "convnext_tiny", "vit_b_32"]  # fmt: skip
TIMM = ["resnet18", "convnext_atto", "mobilenetv3_small_050", "efficientnet_b0", "regnetx_002", "resnetv2_50",
        "vit_tiny_patch16_224", "mixer_s32_224"]  # fmt: skip


@pytest.mark.parametrize("name", VISION)
def test_torchvisions(name: str) -> None:
    with torch.device("meta"):
        assert vision(name, num_classes=7, image_size=32)(torch.empty(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("name", TIMM)
def test_timms(name: str) -> None:
    pytest.importorskip("timm")
    net = timm(name, num_classes=7, image_size=32, channels=1).eval()
    with torch.inference_mode():
        assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 7)


def test_a_network_that_refuses_the_size_draws_the_same_weights() -> None:
    pytest.importorskip("timm")
    weights = []
    for build in (timm, vision):
        torch.manual_seed(0)
        net = build("resnet18", num_classes=10, image_size=32)
        weights.append(net.state_dict()["conv1.weight"])
        torch.manual_seed(0)
        again = build("resnet18", num_classes=10, image_size=64)
        assert torch.equal(weights[-1], again.state_dict()["conv1.weight"])


@pytest.mark.parametrize("build", [timm, vision])
def test_an_unknown_name_gets_near_ones(build: object) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=r"has no network 'resnet81'; expected one of its \d+, such as .*resnet18"):
        build("resnet81", num_classes=10, image_size=32)  # type: ignore[operator]


def test_what_does_not_suit_the_images_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"^torchvision's vit_b_32 cannot be built for images of 33 x 33 pixels: "):
        vision("vit_b_32", num_classes=10, image_size=33)
