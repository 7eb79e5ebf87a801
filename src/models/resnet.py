"""Residual networks: one class, and one function per published variant that only passes arguments."""

from typing import Literal, NotRequired, TypedDict, Unpack, get_args

from torch import Tensor, nn

from src.models.layers import (
    GlobalAveragePool,
    Init,
    Norm,
    PadShortcut,
    PointwiseConv2d,
    check_arguments,
    check_choice,
    initialise,
    norm_layer,
)

Stem = Literal["imagenet", "cifar"]
Shortcut = Literal["projection", "pad"]


def shortcut_layer(kind: Shortcut, in_channels: int, out_channels: int, stride: int, norm: Norm) -> nn.Module:
    """The shortcut of a block: its input, converted to the shape of its output if the two differ."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "pad":
        return PadShortcut(in_channels, out_channels, stride)
    return nn.Sequential(PointwiseConv2d(in_channels, out_channels, stride), norm_layer(norm, out_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the addition before the last ReLU (He et al. 2016, figure 5 left).

    Maps ``[B, in_channels, H, W]`` to ``[B, width, ceil(H / stride), ceil(W / stride)]``.

    Args:
        in_channels: channels that come in.
        width: channels of both convolutions.
        stride: of the first convolution.
        shortcut: what brings the input to a changed shape, see ``ResNet``.
        norm: what follows each convolution, see ``ResNet``.
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: Shortcut, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = norm_layer(norm, width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = norm_layer(norm, width)
        self.relu2 = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = shortcut_layer(shortcut, in_channels, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            out += self.downsample(x)
        return self.relu2(out)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, the addition before the last ReLU (He et al. 2016, figure 5 right).

    Maps ``[B, in_channels, H, W]`` to ``[B, 4 width, ceil(H / stride), ceil(W / stride)]``.

    Args:
        in_channels: channels that come in.
        width: channels of the first two convolutions, a quarter of the last one's.
        stride: of the 3x3 convolution, as in torchvision; the paper has it in the first 1x1.
        shortcut: what brings the input to a changed shape, see ``ResNet``.
        norm: what follows each convolution, see ``ResNet``.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: Shortcut, norm: Norm) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = PointwiseConv2d(in_channels, width)
        self.bn1 = norm_layer(norm, width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = norm_layer(norm, width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = PointwiseConv2d(width, out_channels)
        self.bn3 = norm_layer(norm, out_channels)
        self.relu3 = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = shortcut_layer(shortcut, in_channels, out_channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            out += self.downsample(x)
        return self.relu3(out)


class ResNet(nn.Sequential):
    """Stem, stages of residual blocks, global average pool, linear layer (He et al. 2016, arXiv:1512.03385).

    Maps float ``[B, 3, S, S]`` to logits ``[B, num_classes]``. All stages but the first begin with stride 2.
    Parameters are named as in torchvision, so that its checkpoints load. For the same seed a network without
    ``skip`` or ``norm`` starts from the weights of the full one, less those that went with the axis.

    Args:
        block: ``BasicBlock`` or ``Bottleneck``.
        depths: blocks in each stage.
        widths: width of the blocks in each stage; the stem has the first one's.
        stem: ``"imagenet"`` is a 7x7 convolution and a 3x3 max-pool, both of stride 2; ``"cifar"`` is a 3x3
            convolution of stride 1.
        shortcut: what is added where the shape changes: ``"projection"`` is a 1x1 convolution and norm (the
            paper's option B), ``"pad"`` has no parameters (option A, see ``PadShortcut``).
        num_classes: number of logits, 2 or more.
        image_size: height and width S of the images, 8 or more.
        skip: whether the blocks' additions are made; projections are part of the addition and go with it.
        norm: ``"batch"`` normalises after each convolution, ``"none"`` does not.
        init: ``"torch"`` or ``"he"``, see ``layers.initialise``.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        *,
        stem: Stem,
        shortcut: Shortcut,
        num_classes: int,
        image_size: int,
        skip: bool = True,
        norm: Norm = "batch",
        init: Init = "he",
    ) -> None:
        check_arguments(num_classes=num_classes, image_size=image_size, skip=skip, norm=norm, init=init)
        check_choice("stem", stem, get_args(Stem))
        check_choice("shortcut", shortcut, get_args(Shortcut))
        super().__init__()
        channels = widths[0]
        kernel, stride = (7, 2) if stem == "imagenet" else (3, 1)
        self.conv1 = nn.Conv2d(3, channels, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = norm_layer(norm, channels)
        self.relu = nn.ReLU(inplace=True)
        if stem == "imagenet":
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
            stage = nn.Sequential()
            for j in range(depth):
                stage.append(block(channels, width, 2 if i > 1 and j == 0 else 1, shortcut, norm))
                channels = width * block.expansion
            self.add_module(f"layer{i}", stage)
        self.avgpool = GlobalAveragePool()
        self.fc = nn.Linear(channels, num_classes)
        initialise(self, init)
        if not skip:
            # Only now: the projections have used their random numbers, so all other weights are the same.
            for module in self.modules():
                if isinstance(module, BasicBlock | Bottleneck):
                    module.downsample = None


class Axes(TypedDict):
    """The arguments that every variant passes to ``ResNet``; see there for meanings and defaults."""

    num_classes: int
    image_size: int
    skip: NotRequired[bool]
    norm: NotRequired[Norm]
    init: NotRequired[Init]


def resnet10(**axes: Unpack[Axes]) -> ResNet:
    """The residual network of the blog study of August 2025 (Study 1); 2,777,674 parameters for 10 classes.

    Despite its name, it has 13 convolutions on the main path. ``init`` is ``"torch"`` by default.
    """
    axes.setdefault("init", "torch")
    return ResNet(BasicBlock, (2, 2, 2), (64, 128, 256), stem="cifar", shortcut="projection", **axes)


def resnet20(**axes: Unpack[Axes]) -> ResNet:
    """ResNet-20 for CIFAR-10 (He et al. 2016, section 4.2); 269,722 parameters for 10 classes."""
    return ResNet(BasicBlock, (3, 3, 3), (16, 32, 64), stem="cifar", shortcut="pad", **axes)


def resnet56(**axes: Unpack[Axes]) -> ResNet:
    """ResNet-56 for CIFAR-10 (He et al. 2016, section 4.2); 853,018 parameters for 10 classes."""
    return ResNet(BasicBlock, (9, 9, 9), (16, 32, 64), stem="cifar", shortcut="pad", **axes)


def resnet110(**axes: Unpack[Axes]) -> ResNet:
    """ResNet-110 for CIFAR-10 (He et al. 2016, section 4.2); 1,727,962 parameters for 10 classes."""
    return ResNet(BasicBlock, (18, 18, 18), (16, 32, 64), stem="cifar", shortcut="pad", **axes)


def resnet50_imagenet_stem(**axes: Unpack[Axes]) -> ResNet:
    """ResNet-50 as in torchvision (He et al. 2016, table 1); 23,528,522 parameters for 10 classes."""
    return ResNet(Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), stem="imagenet", shortcut="projection", **axes)


def resnet50_cifar_stem(**axes: Unpack[Axes]) -> ResNet:
    """ResNet-50 with a stem that keeps small images whole (Study 2); 23,520,842 parameters for 10 classes."""
    return ResNet(Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), stem="cifar", shortcut="projection", **axes)
