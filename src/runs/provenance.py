"""What a run was made with: the code's revision, packages, the machine."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# torch is imported where it is used: a job that was completed before needs none.


def versions() -> dict[str, str]:
    """Version of Python and of every package that computes a result."""
    packages = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def revision() -> dict[str, Any]:
    """The code's git commit and whether files differ from it; both None outside a checkout or without git."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "modified": None}


def device_name(device: "torch.device") -> str:
    """The device in words: the card's name, or the processor and the number of threads."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} threads"
    return device.type
