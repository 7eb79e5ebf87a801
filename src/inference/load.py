"""A trained network and all it takes to use it, from a run folder or a checkpoint alone.

    from src.inference.load import load, read_image

    trained = load("logs/train/runs/<run>")
    images = torch.stack([read_image(file, trained.image_size, trained.bits) for file in files])
    with torch.inference_mode():
        probabilities = trained.network(trained.preprocess(images)).softmax(dim=1)

This works in the root of the repository, or wherever Python is told of it (PYTHONPATH). No data set is read, and
nothing in the file is run: tensors and plain values only, and of its configuration only what conf/ describes is built.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import nn

from src.data.decode import read_image
from src.data.normalise import Normalise
from src.runs.checkpoints import load_checkpoint
from src.runs.folder import RunFolder
from src.runs.trust import TRAINING_ONLY, trusted
from src.training.build import build_network

__all__ = ["Trained", "load", "read_image"]


@dataclass(frozen=True)
class Trained:
    """A network as it was trained.

    Attributes:
        network: float32 ``[B, 3, S, S]`` to logits ``[B, classes]``; in eval mode, on the CPU, not compiled.
        preprocess: uint8 ``[B, 3, S, S]`` to what ``network`` takes; its constants are the buffers ``mean`` and
            ``std`` of ``[3]``, for values 0 to 1.
        classes: their names, by index.
        image_size: S, in pixels.
        bits: how many a pixel of a grey image of 16 bits makes use of, see ``read_image``.
        config: what it was trained with.
        checkpoint: the file it came from.
    """

    network: nn.Module
    preprocess: nn.Module
    classes: tuple[str, ...]
    image_size: int
    bits: int
    config: DictConfig
    checkpoint: Path


def load(path: Path | str, trust: Iterable[str] = ()) -> Trained:
    """Load a trained network.

    Args:
        path: a checkpoint, or a run folder, whose ``checkpoints/best.ckpt`` is meant.
        trust: classes and functions that may be called to build it, besides those that conf/ names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint of this project, its configuration asks for what conf/ does not describe, or
            its weights do not fit its network.
    """
    path = Path(path)
    file = RunFolder(path).best if path.is_dir() else path
    checkpoint = load_checkpoint(file)
    config, image_size = trusted(checkpoint.config, unbuilt=TRAINING_ONLY, trust=trust), checkpoint.image_size
    if (bits := config.data.get("bits") or 16) not in range(8, 17):
        raise ValueError(f"{file} has data.bits={bits!r}; expected 8 to 16.")
    with torch.random.fork_rng(devices=[]):  # initial weights, at once replaced, are none of the caller's draws
        network = build_network(config.model, len(checkpoint.classes), image_size)
    try:
        network.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise ValueError(
            f"The checkpoint's weights do not fit {config.model._target_} for images of {image_size} x {image_size} "
            f"pixels: {file} was altered, or the backbone has changed since. ({error})"
        ) from None
    return Trained(
        network=network.float().eval(),
        preprocess=Normalise(config.data.mean, config.data.std),
        classes=checkpoint.classes,
        image_size=image_size,
        bits=bits,
        config=config,
        checkpoint=file,
    )
