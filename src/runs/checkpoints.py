"""Reading checkpoints, trusted or not."""

import logging
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from src.runs.escaping import printable
from src.runs.files import open_regular
from src.runs.folder import RunFolder

LARGEST = 2**36  # bytes of a checkpoint

log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """The checked content of a checkpoint, which may be untrusted. Other code gets nothing else of the file.

    When a run is resumed, Lightning reads the rest.

    ``config`` is the run's, resolved; build it only after ``trusted`` has checked it.
    """

    config: dict[str, Any]
    classes: tuple[str, ...]  # their names by index, two or more; printable
    image_size: int  # side S of the images, 1 to 4096 pixels
    weights: dict[str, Tensor]  # of the network, by name
    epoch: int | None  # from 0; None if not recorded
    epochs: int  # finished epochs: the number of rows of metrics.csv

    @classmethod
    def parse(cls, content: Any) -> "Checkpoint":
        """Parse Lightning's dictionary.

        Raises:
            Exception: of any type; a part is missing, of another type or out of range.
        """
        carried, callbacks = content["hyper_parameters"], content.get("callbacks", {})
        config, classes = carried["config"], carried["classes"]
        # Old checkpoints do not have it: then it is a setting of the data, or 32 as for CIFAR-10.
        image_size = carried.get("image_size") or config["data"].get("image_size", 32)
        weights = {name: value for name, value in content["state_dict"].items() if name.startswith("network.")}
        epoch, rows = content.get("epoch"), callbacks.get("History", {}).get("rows", [])
        expected = (
            type(config) is dict,
            type(classes) is list and len(classes) >= 2 and all(type(name) is str for name in classes),
            type(image_size) is int and 1 <= image_size <= 4096,
            all(isinstance(value, Tensor) for value in weights.values()),
            epoch is None or (type(epoch) is int and epoch >= 0),
            type(rows) is list and all(type(row) is dict and _are_numbers(row.values()) for row in rows),
            _are_numbers([callbacks.get("Checkpoints", {}).get("highest") or 0]),
        )
        if not all(expected):
            raise ValueError
        weights = {name.removeprefix("network."): value for name, value in weights.items()}
        return cls(config, tuple(map(printable, classes)), image_size, weights, epoch, len(rows))


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(type(value) in (int, float) for value in values)


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint onto the CPU: only tensors and plain values; no code is run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint of this project, or it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no checkpoint {path}; a run keeps its own in <run folder>/checkpoints/best.ckpt."
        )
    try:
        with open_regular(path, LARGEST) as file, zipfile.ZipFile(file) as archive:
            # torch does not compress, so a file that unpacks to more than its size is a zip bomb.
            intact = sum(entry.file_size for entry in archive.infolist()) <= path.stat().st_size
            intact = intact and archive.testzip() is None  # torch does not verify its checksums
            file.seek(0)
            checkpoint = Checkpoint.parse(torch.load(file, map_location="cpu", weights_only=True) if intact else None)
    except Exception:  # a damaged file makes torch raise almost anything
        intact = False
    if not intact:
        raise ValueError(
            f"{path} is no checkpoint of this project, or it is damaged; "
            "expected a best.ckpt or last.ckpt from a run folder."
        )
    return checkpoint


def last_good_checkpoint(folder: RunFolder) -> Checkpoint | None:
    """The checkpoint to resume from: the last, else the one before; None to start from the beginning.

    Damaged files are renamed, so that they never replace a good one, and kept until training ends. The returned
    checkpoint is in ``folder.last``. Once an epoch is finished, best.ckpt is also required, because later epochs may
    not write a new one.
    """
    for file in (folder.last, folder.previous):
        if not file.exists():
            continue
        try:
            reading = file
            checkpoint = load_checkpoint(reading)
            if checkpoint.epochs:
                reading = folder.best
                load_checkpoint(reading)
        except (FileNotFoundError, ValueError):
            kept = file.replace(file.with_name(f"{file.name}.damaged"))
            start = "the checkpoint before it" if folder.previous.exists() else "the beginning"
            log.info("%s is kept as %s.", file, kept.name)
            log.warning("%s is missing or damaged: going on from %s.", reading, start)
        else:
            file.replace(folder.last)
            return checkpoint
    return None
