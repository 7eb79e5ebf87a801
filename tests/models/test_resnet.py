import pytest
import torch
import torchvision
from torch import nn

from src.models.layers import PadShortcut, PointwiseConv2d
from src.models.resnet import BasicBlock, Bottleneck, ResNet


def test_torchvisions_resnet50_loads_and_agrees(build):
    theirs = torchvision.models.resnet50(num_classes=10).eval()
    ours = build("resnet50_imagenet_stem", image_size=64).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_torchvisions_resnet18_loads_and_agrees(build):
    theirs = torchvision.models.resnet18(num_classes=10).eval()
    ours = build("resnet18", stem="imagenet", image_size=64).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("resnet10", {"conv1": 32, "layer1": 32, "layer2": 16, "layer3": 8}),
        ("resnet20", {"conv1": 32, "layer1": 32, "layer2": 16, "layer3": 8}),
        ("resnet50_cifar_stem", {"conv1": 32, "layer1": 32, "layer2": 16, "layer3": 8, "layer4": 4}),
        (
            "resnet50_imagenet_stem",
            {"conv1": 16, "maxpool": 8, "layer1": 8, "layer2": 4, "layer3": 2, "layer4": 1},
        ),
    ],
)
def test_where_the_image_shrinks(build, name, sizes):
    seen = {}
    with torch.device("meta"):
        net = build(name)
        for key in sizes:
            net.get_submodule(key).register_forward_hook(
                lambda _module, _args, out, key=key: seen.update({key: out.shape[-1]})
            )
        net(torch.empty(2, 3, 32, 32))
    assert seen == sizes


def test_pad_shortcut_keeps_every_second_pixel_and_adds_empty_channels():
    x = torch.randn(2, 3, 5, 4)
    out = PadShortcut(3, 7, stride=2)(x)
    assert torch.equal(out[:, :3], x[:, :, [0, 2, 4]][:, :, :, [0, 2]])
    assert out.shape == (2, 7, 3, 2)
    assert not out[:, 3:].any()


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_with_weights_of_zero_passes_its_input_on(block, stride):
    out_channels = 4 * block.expansion
    net = block(4, 4, stride, shortcut="pad", norm="none", activation="relu")
    for weight in net.parameters():
        torch.nn.init.zeros_(weight)
    x = torch.randn(2, 4, 9, 9)
    assert torch.equal(net(x), PadShortcut(4, out_channels, stride)(x).relu())


def test_unknown_stem_and_shortcut_get_a_sentence():
    axes = {"stem": "cifar", "shortcut": "pad", "num_classes": 10, "image_size": 32}
    with pytest.raises(ValueError, match=r"^model.stem is 'patch'; expected imagenet or cifar\.$"):
        ResNet(BasicBlock, (1,), (16,), **(axes | {"stem": "patch"}))
    with pytest.raises(ValueError, match=r"^model.shortcut is 'A'; expected projection or pad\.$"):
        ResNet(BasicBlock, (1,), (16,), **(axes | {"shortcut": "A"}))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_a_pointwise_convolution_is_a_convolution(stride, memory_format):
    ours = PointwiseConv2d(6, 8, stride).double()
    theirs = nn.Conv2d(6, 8, 1, stride, bias=False).double()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    seen = []
    for net in (ours, theirs):
        images = torch.randn(4, 6, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        images = images.contiguous(memory_format=memory_format).requires_grad_()
        out = net(images)
        out.square().sum().backward()
        seen.append((out, images.grad, net.weight.grad, net.eval()(images)))
    for mine, other in zip(*seen, strict=True):
        torch.testing.assert_close(mine, other, check_stride=True)


def test_what_makes_it_fast_changes_no_loss_by_more_than_the_order_of_sums():
    losses = []
    for fast in (True, False):
        torch.manual_seed(0)
        net = ResNet(Bottleneck, (1, 1), (8, 16), stem="imagenet", shortcut="projection", num_classes=4, image_size=16)
        memory_format = torch.channels_last if fast else torch.contiguous_format  # also: product or convolution
        net = net.to(memory_format=memory_format)
        for module in net.modules():
            if isinstance(module, nn.ReLU):
                assert module.inplace
                module.inplace = fast
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=fast)
        for images, labels in zip(torch.randn(50, 16, 3, 16, 16), torch.randint(4, (50, 16)), strict=True):
            loss = nn.functional.cross_entropy(net(images.contiguous(memory_format=memory_format)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[:50] == pytest.approx(losses[50:], abs=1e-4)
    assert losses[0] != losses[49]
