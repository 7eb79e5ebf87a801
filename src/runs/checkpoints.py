"""Reading checkpoints, one's own and those of strangers."""

import logging
import zipfile
from pathlib import Path
from typing import Any

import torch

from src.runs.folder import RunFolder

log = logging.getLogger(__name__)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU: tensors and plain values only, no code is run.

    Returns:
        Lightning's dictionary, with ``state_dict``, ``epoch``, ``global_step`` and, under ``hyper_parameters``,
        this project's ``config`` (resolved, plain values), ``classes`` (names by index) and, since it is written,
        ``image_size``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint of this project, or its bytes are not those that were written.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no checkpoint {path}; a run keeps its own in <run folder>/checkpoints/best.ckpt."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            intact = archive.testzip() is None  # torch does not check the sums that it wrote
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        carried = checkpoint["hyper_parameters"]
        named = isinstance(carried["classes"], list) and all(isinstance(name, str) for name in carried["classes"])
        complete = named and "config" in carried and "state_dict" in checkpoint
    except Exception:  # torch raises whatever the bytes lead it to
        complete = False
    if not (complete and intact):
        raise ValueError(
            f"{path} is no checkpoint of this project, or it is damaged; "
            "expected a best.ckpt or last.ckpt from a run folder."
        )
    return checkpoint


def last_good_checkpoint(folder: RunFolder) -> dict[str, Any] | None:
    """What a run goes on from: its last checkpoint, else the one before; None for the beginning.

    Files that cannot be gone on from are deleted, so that they never take the place of a good one; the checkpoint that
    is returned is in ``folder.last``. Once an epoch is finished, a run cannot go on without its best.ckpt, which no
    later epoch may replace.
    """
    for file in (folder.last, folder.previous):
        if not file.exists():
            continue
        try:
            reading = file
            checkpoint = load_checkpoint(reading)
            if checkpoint.get("callbacks", {}).get("History", {}).get("rows"):
                reading = folder.best
                load_checkpoint(reading)
        except (FileNotFoundError, ValueError):
            file.unlink()
            start = "the checkpoint before it" if folder.previous.exists() else "the beginning"
            log.warning("%s is missing or damaged: going on from %s.", reading, start)
        else:
            file.replace(folder.last)
            return checkpoint
    return None
