"""DeepCNN: the ten-layer network of Study 1 that did not learn, and what it lacks as switches."""

from torch import Tensor, nn

from src.models.layers import GlobalAveragePool, Init, Norm, PadShortcut, check_values, initialise, norm_layer

CHANNELS = (64, 64, 64, 64, 64, 128, 128, 128, 256, 256)


class DeepCNN(nn.Module):
    """Ten 3x3 convolutions in a chain, two max-pools, global average pool, one linear layer.

    Maps float ``[B, channels, S, S]`` to logits ``[B, num_classes]``. Structure: the CPU-only blog study of August
    2025 (Study 1); 1,406,346 parameters for 10 classes, with ``skip`` or without. The skips are not the
    study's: they join layers (2, 3), (4, 5), (6, 7, 8) and (9, 10) to residual units after He et al. 2016
    (arXiv:1512.03385), where the unit's input is added before its last ReLU, zero-padded where channels grow.

    Arguments are those of ``SimpleCNN``; the defaults are as published.
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
        in_channels = channels
        for i, width in enumerate(CHANNELS, start=1):
            # The bias stays beside a norm: ``norm`` adds or removes normalisation and nothing else.
            self.add_module(f"conv{i}", nn.Conv2d(in_channels, width, 3, padding=1))
            self.add_module(f"norm{i}", norm_layer(norm, width))
            self.add_module(f"relu{i}", nn.ReLU(inplace=True))
            in_channels = width
        # By the number of the layer where the unit ends.
        units = {"3": nn.Identity(), "5": nn.Identity(), "8": PadShortcut(64, 128), "10": PadShortcut(128, 256)}
        self.shortcuts = nn.ModuleDict(units if skip else {})
        self.pool5 = nn.MaxPool2d(2)
        self.pool8 = nn.MaxPool2d(2)
        self.avgpool = GlobalAveragePool()
        self.fc = nn.Linear(in_channels, num_classes)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        x = self._layers(images, 1)
        x = self._layers(x, 2, 3)
        x = self._layers(x, 4, 5)
        x = self.pool5(x)
        x = self._layers(x, 6, 7, 8)
        x = self.pool8(x)
        x = self._layers(x, 9, 10)
        return self.fc(self.avgpool(x))

    def _layers(self, entry: Tensor, *numbers: int) -> Tensor:
        """Run the numbered layers on ``entry``; where a residual unit ends, add ``entry`` before the ReLU."""
        x = entry
        for i in numbers:
            conv, norm, relu = (getattr(self, f"{part}{i}") for part in ("conv", "norm", "relu"))
            x = norm(conv(x))
            if str(i) in self.shortcuts:
                x += self.shortcuts[str(i)](entry)
            x = relu(x)
        return x
