"""Common parts of the backbones: the axes ``norm``, ``activation`` and ``init``, the shortcut without parameters, the
checks."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["batch", "group", "layer", "none"]
Activation = Literal["relu", "gelu", "silu"]
Init = Literal["torch", "he"]

# The size of scikit-learn's digits.
MIN_IMAGE_SIZE = 8


@contextmanager
def plain_attention() -> Iterator[None]:
    """Have torch evaluate attention operation by operation: its fused kernel can neither be counted nor traced."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class PadShortcut(nn.Module):
    """The identity across a change of shape: option A of He et al. 2016 (arXiv:1512.03385), no parameters.

    Maps ``[B, in_channels, H, W]`` to ``[B, out_channels, ceil(H / stride), ceil(W / stride)]``.

    Args:
        in_channels: input channels, which come first in the output.
        out_channels: output channels; the new ones, at the end, are zero.
        stride: every ``stride``-th pixel is kept, in both directions.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution without bias, ``[B, in_channels, H, W]`` to ``[B, out_channels, ceil(H / stride), ...]``.

    On the CPU, with channels_last, it is computed as one matrix product. For images of a few pixels, oneDNN's
    convolution takes up to ten times as long, above all for the gradient.

    Args:
        in_channels: input channels.
        out_channels: output channels.
        stride: every ``stride``-th pixel is used, in both directions.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # Traced graphs should show a convolution; and Inductor would copy to another memory format and back.
        captured = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if captured or not (x.is_cpu and x.is_contiguous(memory_format=torch.channels_last)):
            return super().forward(x)
        pixels = x.permute(0, 2, 3, 1)[:, :: self.stride[0], :: self.stride[1]]
        return F.linear(pixels, self.weight.flatten(1)).permute(0, 3, 1, 2)


class GlobalAveragePool(nn.Module):
    """``[B, C, H, W]`` to ``[B, C]``. AdaptiveAvgPool2d has no deterministic gradient on CUDA."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(-2, -1))


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Normalisation of ``[B, channels, H, W]``; the identity for none, so that other parameter names do not change.

    ``"group"`` has 32 groups (Wu & He 2018, arXiv:1803.08494), or fewer where channels are fewer or no multiple of 32;
    ``"layer"`` normalises all channels and pixels of an image together, as one group.
    """
    groups = math.gcd(32, channels)
    layers: dict[str, Callable[[], nn.Module]] = {
        "batch": lambda: nn.BatchNorm2d(channels),
        "group": lambda: nn.GroupNorm(groups if groups < channels else max(1, channels // 2), channels),
        "layer": lambda: nn.GroupNorm(1, channels),
        "none": nn.Identity,
    }
    return layers[norm]()


def activation_layer(activation: Activation, inplace: bool = True) -> nn.Module:
    """ReLU, GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415) or SiLU (also called Swish)."""
    return nn.GELU() if activation == "gelu" else {"relu": nn.ReLU, "silu": nn.SiLU}[activation](inplace=inplace)


def initialise(net: nn.Module, init: Init) -> None:
    """Initialise the convolutions of a new ``net`` as ``model.init`` says.

    The linear layer keeps PyTorch's default in both: no ReLU follows it, and only one factor should change.

    Args:
        net: a network that still has PyTorch's default weights.
        init: ``"torch"`` leaves the defaults: uniform within 1/sqrt(fan_in), std 1/sqrt(3 fan_in).
            ``"he"`` is He et al. 2015 (arXiv:1502.01852): normal, std sqrt(2/fan_out), biases zero.
    """
    if init == "torch":
        return
    # Forked, so that later random numbers (data order, augmentation) do not depend on ``init``.
    with torch.random.fork_rng(devices=[]):
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def check_choice(key: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise a ValueError that lists ``choices`` unless ``value`` is one of them."""
    if value not in choices:
        # In lower case, true and false are spelled as in YAML.
        expected = " or ".join(str(choice).lower() for choice in choices)
        raise ValueError(f"{key} is {value!r}; expected {expected}.")


def check_values(*, num_classes: int, image_size: int, channels: int, skip: bool, norm: Norm, init: Init) -> None:
    """Raise a ValueError of one sentence for a value that no backbone here accepts.

    Args:
        channels: of the images, 1 or 3.
        num_classes: at least 2.
        image_size: at least ``MIN_IMAGE_SIZE``.
        norm: one of ``Norm``.
        init: one of ``Init``.
        skip: a bool: the string ``"no"`` would count as true.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; expected 2 or more.")
    if image_size < MIN_IMAGE_SIZE:
        raise ValueError(f"image_size is {image_size}; expected {MIN_IMAGE_SIZE} pixels or more.")
    check_choice("data.channels", channels, (1, 3))
    check_choice("model.norm", norm, get_args(Norm))
    check_choice("model.init", init, get_args(Init))
    check_choice("model.skip", skip, (True, False))
