"""Residual networks: one class, and one function per published variant that only passes arguments."""

from typing import Any, Literal, NotRequired, TypedDict, Unpack, get_args

import torch
from torch import Tensor, nn

from src.models.layers import (
    Activation,
    GlobalAveragePool,
    Init,
    Norm,
    PadShortcut,
    PointwiseConv2d,
    activation_layer,
    check_choice,
    check_values,
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
    """Two 3x3 convolutions, the addition before the last activation (He et al. 2016, figure 5 left).

    Maps ``[B, in_channels, H, W]`` to ``[B, width, ceil(H / stride), ceil(W / stride)]``.

    Args:
        in_channels: channels that come in.
        width: channels of both convolutions.
        stride: of the first convolution.
        shortcut: what brings the input to a changed shape, see ``ResNet``.
        norm: what follows each convolution, see ``ResNet``.
        activation: see ``ResNet``. Layers are called ``relu`` whatever it is, as in torchvision.
    """

    expansion = 1
    preactivated = False

    def __init__(
        self, in_channels: int, width: int, stride: int, shortcut: Shortcut, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = norm_layer(norm, width)
        self.relu1 = activation_layer(activation)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = norm_layer(norm, width)
        self.relu2 = activation_layer(activation)
        self.downsample: nn.Module | None = shortcut_layer(shortcut, in_channels, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            out += self.downsample(x)
        return self.relu2(out)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, the addition before the last activation (He et al. 2016, figure 5 right).

    Maps ``[B, in_channels, H, W]`` to ``[B, 4 width, ceil(H / stride), ceil(W / stride)]``.

    Args:
        in_channels, shortcut, norm, activation: see ``BasicBlock``.
        width: channels of the first two convolutions, a quarter of the last one's.
        stride: of the 3x3 convolution, as in torchvision; the paper has it in the first 1x1.
    """

    expansion = 4
    preactivated = False

    def __init__(
        self, in_channels: int, width: int, stride: int, shortcut: Shortcut, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = PointwiseConv2d(in_channels, width)
        self.bn1 = norm_layer(norm, width)
        self.relu1 = activation_layer(activation)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = norm_layer(norm, width)
        self.relu2 = activation_layer(activation)
        self.conv3 = PointwiseConv2d(width, out_channels)
        self.bn3 = norm_layer(norm, out_channels)
        self.relu3 = activation_layer(activation)
        self.downsample: nn.Module | None = shortcut_layer(shortcut, in_channels, out_channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            out += self.downsample(x)
        return self.relu3(out)


class PreActBlock(nn.Module):
    """Norm and activation before each of two 3x3 convolutions, nothing after the addition (He et al. 2016, "Identity
    mappings", arXiv:1603.05027). A shortcut that changes the shape takes the activated input.

    Arguments and shapes are those of ``BasicBlock``. ``dropout``, between the convolutions (Zagoruyko & Komodakis 2016,
    arXiv:1605.07146), is off unless a network sets its ``p``.
    """

    expansion = 1
    preactivated = True

    def __init__(
        self, in_channels: int, width: int, stride: int, shortcut: Shortcut, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        self.bn1 = norm_layer(norm, in_channels)
        self.relu1 = activation_layer(activation, inplace=False)  # without a norm, its input is the shortcut's
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn2 = norm_layer(norm, width)
        self.relu2 = activation_layer(activation)
        self.dropout = nn.Dropout(0.0)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.downsample: nn.Module | None = shortcut_layer(shortcut, in_channels, width, stride, "none")

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu1(self.bn1(x))
        out = self.conv2(self.dropout(self.relu2(self.bn2(self.conv1(active)))))
        if self.downsample is not None:
            out += self.downsample(x if isinstance(self.downsample, nn.Identity) else active)
        return out


Block = BasicBlock | Bottleneck | PreActBlock


class ResNet(nn.Sequential):
    """Stem, stages of residual blocks, global average pool, linear layer (He et al. 2016, arXiv:1512.03385).

    Maps float ``[B, channels, S, S]`` to logits ``[B, num_classes]``. All stages but the first begin with stride 2.
    Parameters are named as in torchvision, so that its checkpoints load. For the same seed a network without
    ``skip`` or ``norm`` starts from the weights of the full one, less those that went with the axis.

    Args:
        block: ``BasicBlock``, ``Bottleneck`` or ``PreActBlock``.
        depths: blocks in each stage.
        widths: width of the blocks in each stage, or of the stem and then of each stage; a stem that is not given has
            the first stage's.
        stem: ``"imagenet"`` is a 7x7 convolution and a 3x3 max-pool, both of stride 2; ``"cifar"`` is a 3x3
            convolution of stride 1.
        shortcut: what is added where the shape changes: ``"projection"`` is a 1x1 convolution and norm (the
            paper's option B), ``"pad"`` has no parameters (option A, see ``PadShortcut``).
        num_classes: number of logits, 2 or more.
        image_size: height and width S of the images, 8 or more.
        channels: of the images, 1 or 3.
        skip: whether the blocks' additions are made; projections are part of the addition and go with it.
        norm: what normalises after each convolution, see ``layers.norm_layer``.
        init: ``"torch"`` or ``"he"``, see ``layers.initialise``.
        activation: ``"relu"``, ``"gelu"`` or ``"silu"``.
        zero_init_residual: whether each block starts as its shortcut: the last norm of its branch, or the last
            convolution where no norm follows it, has weights of zero (Goyal et al. 2017, arXiv:1706.02677).
        final_norm: whether norm and activation follow the last of pre-activated blocks.
    """

    def __init__(
        self,
        block: type[Block],
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        *,
        stem: Stem,
        shortcut: Shortcut,
        num_classes: int,
        image_size: int,
        channels: int = 3,
        skip: bool = True,
        norm: Norm = "batch",
        init: Init = "he",
        activation: Activation = "relu",
        zero_init_residual: bool = False,
        final_norm: bool = True,
    ) -> None:
        check_values(num_classes=num_classes, image_size=image_size, channels=channels, skip=skip, norm=norm, init=init)
        check_choice("model.stem", stem, get_args(Stem))
        check_choice("model.shortcut", shortcut, get_args(Shortcut))
        check_choice("model.activation", activation, get_args(Activation))
        check_choice("model.zero_init_residual", zero_init_residual, (True, False))
        if zero_init_residual and not skip:
            raise ValueError("model.zero_init_residual needs model.skip: without it, no signal would pass a block.")
        super().__init__()
        first, *widths_of_stages = widths if len(widths) > len(depths) else (widths[0], *widths)
        kernel, stride = (7, 2) if stem == "imagenet" else (3, 1)
        self.conv1 = nn.Conv2d(channels, first, kernel, stride, padding=kernel // 2, bias=False)
        if not block.preactivated:
            self.bn1 = norm_layer(norm, first)
            self.relu = activation_layer(activation)
        if stem == "imagenet":
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        in_channels = first
        for i, (depth, width) in enumerate(zip(depths, widths_of_stages, strict=True), start=1):
            stage = nn.Sequential()
            for j in range(depth):
                stage.append(block(in_channels, width, 2 if i > 1 and j == 0 else 1, shortcut, norm, activation))
                in_channels = width * block.expansion
            self.add_module(f"layer{i}", stage)
        if block.preactivated and final_norm:
            self.bn1 = norm_layer(norm, in_channels)
            self.relu = activation_layer(activation)
        self.avgpool = GlobalAveragePool()
        self.fc = nn.Linear(in_channels, num_classes)
        initialise(self, init)
        for module in self.modules():
            if isinstance(module, Block):
                if not skip:
                    # Only now: the projections have used their random numbers, so all other weights are the same.
                    module.downsample = None
                if zero_init_residual:
                    weights = {name: weight for name, weight in module.named_parameters() if name.endswith(".weight")}
                    nn.init.zeros_([weights[name] for name in weights if not name.startswith("downsample")][-1])


class Axes(TypedDict):
    """The arguments that every variant passes to ``ResNet``; see there for meanings and defaults.

    ``stem`` and ``shortcut`` of None are the variant's own. ``width`` and ``depth`` are factors, above 0, on its
    channels and on its blocks per stage, rounded to at least one.
    """

    num_classes: int
    image_size: int
    channels: NotRequired[int]
    skip: NotRequired[bool]
    norm: NotRequired[Norm]
    init: NotRequired[Init]
    activation: NotRequired[Activation]
    zero_init_residual: NotRequired[bool]
    stem: NotRequired[Stem | None]
    shortcut: NotRequired[Shortcut | None]
    width: NotRequired[float]
    depth: NotRequired[float]


def _variant(
    block: type[Block], depths: tuple[int, ...], widths: tuple[int, ...], stem: Stem, shortcut: Shortcut,
    axes: Axes, final_norm: bool = True,
) -> ResNet:  # fmt: skip
    """A variant, with what ``axes`` change of it. Where name and shape agree, weights start as those of the variant."""
    own: dict[str, Any] = {key: axes[key] for key in axes if key not in ("stem", "shortcut", "width", "depth")}  # type: ignore[literal-required]
    own["final_norm"] = final_norm
    published = ResNet(block, depths, widths, stem=stem, shortcut=shortcut, **own)
    width, depth = axes.get("width", 1), axes.get("depth", 1)
    for key, factor in (("width", width), ("depth", depth)):
        if isinstance(factor, bool) or not (isinstance(factor, int | float) and 0 < factor <= 64):
            raise ValueError(f"model.{key} is {factor!r}; expected a factor above 0, up to 64, such as 0.5.")
    layout = axes.get("stem") or stem, axes.get("shortcut") or shortcut
    if (layout, width, depth) == ((stem, shortcut), 1, 1):
        return published
    scaled_widths = tuple(max(1, round(size * width)) for size in widths)
    scaled_depths = tuple(max(1, round(size * depth)) for size in depths)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), device="cpu")))  # numbers unused by the published layers
        net = ResNet(block, scaled_depths, scaled_widths, stem=layout[0], shortcut=layout[1], **own)
    shapes = {name: value.shape for name, value in net.state_dict().items()}
    common = {name: value for name, value in published.state_dict().items() if shapes.get(name) == value.shape}
    net.load_state_dict(common, strict=False)
    return net


def resnet10(**axes: Unpack[Axes]) -> ResNet:
    """The residual network of the blog study of August 2025 (Study 1); 2,777,674 parameters for 10 classes.

    Despite its name, it has 13 convolutions on the main path. ``init`` is ``"torch"`` by default.
    """
    axes.setdefault("init", "torch")
    return _variant(BasicBlock, (2, 2, 2), (64, 128, 256), "cifar", "projection", axes)


def resnet18(**axes: Unpack[Axes]) -> ResNet:
    """ResNet-18 (He et al. 2016, table 1) with the CIFAR stem; 11,173,962 parameters for 10 classes."""
    return _variant(BasicBlock, (2, 2, 2, 2), (64, 128, 256, 512), "cifar", "projection", axes)


def resnet34(**axes: Unpack[Axes]) -> ResNet:
    """ResNet-34 (He et al. 2016, table 1) with the CIFAR stem; 21,282,122 parameters for 10 classes."""
    return _variant(BasicBlock, (3, 4, 6, 3), (64, 128, 256, 512), "cifar", "projection", axes)


def resnet20(**axes: Unpack[Axes]) -> ResNet:
    """ResNet-20 for CIFAR-10 (He et al. 2016, section 4.2); 269,722 parameters for 10 classes."""
    return _variant(BasicBlock, (3, 3, 3), (16, 32, 64), "cifar", "pad", axes)


def resnet32(**axes: Unpack[Axes]) -> ResNet:
    """ResNet-32 for CIFAR-10 (He et al. 2016, section 4.2); 464,154 parameters for 10 classes."""
    return _variant(BasicBlock, (5, 5, 5), (16, 32, 64), "cifar", "pad", axes)


def resnet44(**axes: Unpack[Axes]) -> ResNet:
    """ResNet-44 for CIFAR-10 (He et al. 2016, section 4.2); 658,586 parameters for 10 classes."""
    return _variant(BasicBlock, (7, 7, 7), (16, 32, 64), "cifar", "pad", axes)


def resnet56(**axes: Unpack[Axes]) -> ResNet:
    """ResNet-56 for CIFAR-10 (He et al. 2016, section 4.2); 853,018 parameters for 10 classes."""
    return _variant(BasicBlock, (9, 9, 9), (16, 32, 64), "cifar", "pad", axes)


def resnet110(**axes: Unpack[Axes]) -> ResNet:
    """ResNet-110 for CIFAR-10 (He et al. 2016, section 4.2); 1,727,962 parameters for 10 classes."""
    return _variant(BasicBlock, (18, 18, 18), (16, 32, 64), "cifar", "pad", axes)


def resnet50_imagenet_stem(**axes: Unpack[Axes]) -> ResNet:
    """ResNet-50 as in torchvision (He et al. 2016, table 1); 23,528,522 parameters for 10 classes."""
    return _variant(Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), "imagenet", "projection", axes)


def resnet50_cifar_stem(**axes: Unpack[Axes]) -> ResNet:
    """ResNet-50 with a stem that keeps small images whole (Study 2); 23,520,842 parameters for 10 classes."""
    return _variant(Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), "cifar", "projection", axes)


def preact_resnet18(**axes: Unpack[Axes]) -> ResNet:
    """Pre-activated ResNet-18 with the CIFAR stem; 11,171,146 parameters for 10 classes.

    As in kuangliu/pytorch-cifar, neither norm nor activation follows the last block.
    """
    return _variant(PreActBlock, (2, 2, 2, 2), (64, 128, 256, 512), "cifar", "projection", axes, final_norm=False)


def _wide(depth: int, factor: int, dropout: float, axes: Axes) -> ResNet:
    """WRN-depth-factor (Zagoruyko & Komodakis 2016, arXiv:1605.07146)."""
    if isinstance(dropout, bool) or not (isinstance(dropout, int | float) and 0 <= dropout < 1):
        raise ValueError(f"model.dropout is {dropout!r}; expected 0 or more, less than 1.")
    blocks, widths = (depth - 4) // 6, (16, 16 * factor, 32 * factor, 64 * factor)
    net = _variant(PreActBlock, (blocks,) * 3, widths, "cifar", "projection", axes)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    return net


def wrn_40_2(dropout: float = 0.0, **axes: Unpack[Axes]) -> ResNet:
    """Wide ResNet of 40 layers, factor 2; 2,243,546 parameters for 10 classes."""
    return _wide(40, 2, dropout, axes)


def wrn_28_10(dropout: float = 0.0, **axes: Unpack[Axes]) -> ResNet:
    """Wide ResNet of 28 layers, factor 10; 36,479,194 parameters for 10 classes."""
    return _wide(28, 10, dropout, axes)


def wrn_16_8(dropout: float = 0.0, **axes: Unpack[Axes]) -> ResNet:
    """Wide ResNet of 16 layers, factor 8; 10,961,370 parameters for 10 classes."""
    return _wide(16, 8, dropout, axes)
