"""Load a trained network with everything needed to use it, from a run folder or a checkpoint alone.

    from src.inference.load import load, read_image

    trained = load("logs/train/runs/<run>")
    images = torch.stack([read_image(file, trained.image_size, trained.bits) for file in files])
    with torch.inference_mode():
        probabilities = trained.network(trained.preprocess(images)).softmax(dim=1)

This works in the root of the repository, or with the root in PYTHONPATH. No data set is read, and no code in the file
is run: it has only tensors and plain values, and only targets that conf/ names are built.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import nn

from src.data.decode import read_image
from src.data.normalise import Normalise
from src.runs import identity
from src.runs.checkpoints import load_checkpoint
from src.runs.folder import RunFolder
from src.runs.trust import TRAINING_ONLY, trusted
from src.training.build import build_data, build_network

__all__ = ["Trained", "load", "read_image"]


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        network: float32 ``[B, channels, S, S]`` to logits ``[B, classes]``; in eval mode, on the CPU, not compiled.
        preprocess: uint8 ``[B, 3, S, S]`` to the input of ``network``; its constants are the buffers ``mean`` and
            ``std`` of ``[channels]``, for values 0 to 1.
        classes: their names, by index.
        image_size: S, in pixels.
        bits: significant bits per pixel of 16-bit grey images, see ``read_image``.
        config: the training configuration.
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
        path: a checkpoint, or a run folder, for its ``checkpoints/best.ckpt``.
        trust: classes and functions that may be called to build it, besides those that conf/ names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint of this project, ``trusted`` refuses its configuration, or
            its weights do not fit its network.
    """
    path = Path(path)
    file = RunFolder(path).best if path.is_dir() else path
    checkpoint = load_checkpoint(file)
    config, image_size = trusted(checkpoint.config, unbuilt=TRAINING_ONLY, trust=trust), checkpoint.image_size
    if (bits := config.data.get("bits") or 16) not in range(8, 17):
        raise ValueError(f"{file} has data.bits={bits!r}; expected 8 to 16.")
    channels = config.data.get("channels")
    with torch.random.fork_rng(devices=[]):  # initial weights must not use the caller's random numbers
        classes = len(checkpoint.classes)
        network = build_network(config.model, classes, image_size, channels or 3, pretrained=False)
    try:
        network.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise ValueError(
            f"The checkpoint's weights do not fit {config.model._target_} for images of {image_size} x {image_size} "
            f"pixels: {file} was altered, or the backbone has changed since. ({error})"
        ) from None
    return Trained(
        network=network.float().eval(),
        preprocess=Normalise(config.data.mean, config.data.std, channels),
        classes=checkpoint.classes,
        image_size=image_size,
        bits=bits,
        config=config,
        checkpoint=file,
    )


def test_images(run: Path) -> NDArray[np.uint8]:
    """The test images of a run, uint8 ``[N, 3, S, S]``, in the order of its test_outcomes.npz.

    Raises:
        FileNotFoundError, ValueError: the images cannot be read, or they have changed since.
    """
    results = RunFolder(run).results()
    if identity.TESTED in results["settings"]:
        raise ValueError(f"{run} was tested on other images than those of its own data set; draw none, images=false.")
    known: Any = results["config"]
    needed = {key: known[key] for key in ("data", "seed", "seeds") if key in known}
    config = trusted(needed | {"aug": {"_target_": "src.augment.Pipeline", "transforms": []}})
    data = build_data(config)
    if data.content != results["settings"][identity.CONTENT]:
        raise ValueError(f"The images of {run} have changed since it was trained; draw none, with images=false.")
    images, positions = data.test.images, data.test.positions
    whole = torch.equal(positions, torch.arange(len(images)))  # which may be larger than memory
    return (images if whole else images[positions]).numpy()
