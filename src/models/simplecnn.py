"""SimpleCNN: the shallow baseline of Study 1."""

from torch import Tensor, nn

from src.models.layers import Init, Norm, PadShortcut, check_values, initialise, norm_layer


class SimpleCNN(nn.Module):
    """Three 3x3 convolutions (32, 64, 128 channels), a 2x2 max-pool after the first two, one linear layer.

    Maps float ``[B, channels, S, S]`` to logits ``[B, num_classes]``. Structure: the CPU-only blog study of August
    2025 (Study 1); 175,178 parameters for 10 classes at 32x32 pixels, with ``skip`` or without. The linear layer
    reads the whole last map, so its size follows ``image_size``. The skips are not the study's: they add to the second
    and third convolution their input, zero-padded in channels (option A of He et al. 2016, arXiv:1512.03385).

    Args:
        num_classes: number of logits, 2 or more.
        image_size: height and width S of the images, 8 or more.
        channels: of the images, 1 or 3.
        skip: whether the additions are made; without them (as published) the network is the plain chain.
        norm: what normalises after each convolution, see ``layers.norm_layer``; ``"none"`` as published.
        init: ``"torch"`` (as published) or ``"he"``, see ``layers.initialise``.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: int,
        channels: int = 3,
        skip: bool = False,
        norm: Norm = "none",
        init: Init = "torch",
    ) -> None:
        check_values(num_classes=num_classes, image_size=image_size, channels=channels, skip=skip, norm=norm, init=init)
        super().__init__()
        # The bias stays beside a norm: ``norm`` adds or removes normalisation and nothing else.
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.norm1 = norm_layer(norm, 32)
        self.relu1 = nn.ReLU(inplace=True)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.norm2 = norm_layer(norm, 64)
        self.relu2 = nn.ReLU(inplace=True)
        self.pool2 = nn.MaxPool2d(2)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1)
        self.norm3 = norm_layer(norm, 128)
        self.relu3 = nn.ReLU(inplace=True)
        self.shortcut2 = PadShortcut(32, 64) if skip else None
        self.shortcut3 = PadShortcut(64, 128) if skip else None
        self.fc = nn.Linear(128 * (image_size // 4) ** 2, num_classes)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool1(self.relu1(self.norm1(self.conv1(images))))
        y = self.norm2(self.conv2(x))
        if self.shortcut2 is not None:
            y += self.shortcut2(x)
        x = self.pool2(self.relu2(y))
        y = self.norm3(self.conv3(x))
        if self.shortcut3 is not None:
            y += self.shortcut3(x)
        return self.fc(self.relu3(y).flatten(1))
