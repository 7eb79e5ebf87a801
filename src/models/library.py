"""Networks of timm and torchvision, by name."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

import torch
import torchvision
from torch import nn


def timm(
    name: str, *, num_classes: int, image_size: int, channels: int = 3, pretrained: bool = False, **settings: Any
) -> nn.Module:
    """A network of timm: float ``[B, channels, S, S]`` to logits ``[B, num_classes]``.

    Args:
        name: as in ``timm.list_models()``.
        num_classes, image_size, channels: of the images. ``image_size`` is handed over if the network takes it.
        pretrained: whether to start from timm's weights, which are downloaded.
        settings: further arguments of the network, such as ``drop_path_rate``.

    Raises:
        ValueError: timm is not installed, it has no such network, or the arguments or images do not suit it.
    """
    try:
        import timm
    except ImportError:
        raise ValueError("model=timm needs timm; install it with: uv sync --extra timm") from None
    check_name("timm has no network", name, timm.list_models())
    own: dict[str, Any] = {"pretrained": pretrained, "num_classes": num_classes, "in_chans": channels}

    def build(**size: Any) -> nn.Module:
        return timm.create_model(name, **own, **size, **settings)

    return _build(build, f"timm's {name}", "img_size", image_size, pretrained)


def vision(name: str, *, num_classes: int, image_size: int, pretrained: bool = False, **settings: Any) -> nn.Module:
    """A classification network of torchvision: float ``[B, 3, S, S]`` to logits ``[B, num_classes]``.

    Arguments and errors are those of ``timm``. With ``pretrained`` the head is new unless there are 1,000 classes.
    """
    check_name("torchvision has no network", name, torchvision.models.list_models(torchvision.models))

    def build(**size: int) -> nn.Module:
        net = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **size, **settings)
        if pretrained:
            weights = torchvision.models.get_model_weights(name)["DEFAULT"].get_state_dict(progress=False)
            fitting = {key: weights[key] for key, own in net.state_dict().items() if weights[key].shape == own.shape}
            net.load_state_dict(fitting, strict=False)
        return net

    return _build(build, f"torchvision's {name}", "image_size", image_size, pretrained)


def check_name(problem: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        near = get_close_matches(str(name), names, n=3, cutoff=0.5) or names[:3]
        raise ValueError(f"{problem} {name!r}; expected one of its {len(names)}, such as {', '.join(near)}.")


def _build(build: Callable[..., nn.Module], what: str, key: str, pixels: int, pretrained: bool) -> nn.Module:
    """Call ``build`` with ``pixels`` as its argument ``key`` if the network takes it, else without."""
    state = torch.get_rng_state()
    try:
        try:
            return build(**{key: pixels})
        except TypeError as error:
            if f"'{key}'" not in str(error):
                raise
            torch.set_rng_state(state)
            return build()
    except Exception as error:
        tip = " Without network, leave out model.pretrained, or start from a file with init_from." * bool(pretrained)
        problem = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"{what} cannot be built for images of {pixels} x {pixels} pixels: {problem}.{tip}") from error
