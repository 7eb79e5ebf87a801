"""SimpleCNN: the shallow baseline of Study 1."""

from torch import nn

from src.models.layers import Init, Norm, check_arguments, initialise, norm_layer


class SimpleCNN(nn.Sequential):
    """Three 3x3 convolutions (32, 64, 128 channels), a 2x2 max-pool after the first two, one linear layer.

    Maps float ``[B, 3, S, S]`` to logits ``[B, num_classes]``. Structure: the CPU-only blog study of August
    2025 (Study 1); 175,178 parameters for 10 classes at 32x32 pixels. The linear layer reads the whole last
    map, so its size follows ``image_size``.

    Args:
        num_classes: number of logits, 2 or more.
        image_size: height and width S of the images, 8 or more.
        norm: ``"batch"`` normalises after each convolution, ``"none"`` (as published) does not.
        init: ``"torch"`` (as published) or ``"he"``, see ``layers.initialise``.
    """

    def __init__(self, *, num_classes: int, image_size: int, norm: Norm = "none", init: Init = "torch") -> None:
        check_arguments(num_classes=num_classes, image_size=image_size, norm=norm, init=init)
        super().__init__()
        in_channels = 3
        for i, channels in enumerate((32, 64, 128), start=1):
            # The bias stays beside a norm: ``norm`` adds or removes normalisation and nothing else.
            self.add_module(f"conv{i}", nn.Conv2d(in_channels, channels, 3, padding=1))
            self.add_module(f"norm{i}", norm_layer(norm, channels))
            self.add_module(f"relu{i}", nn.ReLU())
            if i < 3:
                self.add_module(f"pool{i}", nn.MaxPool2d(2))
            in_channels = channels
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(in_channels * (image_size // 4) ** 2, num_classes)
        initialise(self, init)
