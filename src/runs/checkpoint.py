"""Reading checkpoints, one's own and those of strangers."""

from pathlib import Path
from typing import Any

import torch


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU: tensors and plain values only, no code is run.

    Returns:
        Lightning's dictionary, with ``state_dict``, ``epoch``, ``global_step`` and, under ``hyper_parameters``,
        this project's ``config`` (resolved, plain values), ``classes`` (names by index) and, since it is written,
        ``image_size``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint of this project.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no checkpoint {path}; a run keeps its own in <run folder>/checkpoints/best.ckpt."
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        carried = checkpoint["hyper_parameters"]
        named = isinstance(carried["classes"], list) and all(isinstance(name, str) for name in carried["classes"])
        complete = named and "config" in carried and "state_dict" in checkpoint
    except Exception:  # torch raises whatever the bytes lead it to
        complete = False
    if not complete:
        raise ValueError(
            f"{path} is no checkpoint of this project, or it is damaged; "
            "expected a best.ckpt or last.ckpt from a run folder."
        )
    return checkpoint
