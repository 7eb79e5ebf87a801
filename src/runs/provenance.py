"""What a result depends on: the fingerprint of a configuration, the code's revision, packages, the machine."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# torch is imported where it is used: a job that was done before is known by its fingerprint alone.

# What changes a result. Everything else (paths, device, loggers, speed settings) may differ between two
# runs that are the same experiment.
_GROUPS = ("data", "model", "optim", "schedule", "aug", "seed", "label_smoothing")
_TRAINER = (
    "max_epochs",
    "max_steps",
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "precision",
    "accumulate_grad_batches",
    "gradient_clip_val",
)
_NEUTRAL_DATA = ("root", "download", "eval_batch_size", "device")


def _without(node: Any, names: tuple[str, ...]) -> Any:
    if isinstance(node, Mapping):
        return {key: _without(value, names) for key, value in node.items() if key not in names}
    return node


def _essence(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that affects the result."""
    essence = {key: config.get(key) for key in _GROUPS}
    essence["data"] = _without(config.get("data"), _NEUTRAL_DATA)
    essence["trainer"] = {key: config["trainer"].get(key) for key in _TRAINER}
    return essence


def fingerprint(config: Mapping[str, Any]) -> str:
    """SHA-256 (64 hexadecimal digits) of the part of a resolved config that affects the result."""
    return hashlib.sha256(json.dumps(_essence(config), sort_keys=True).encode()).hexdigest()


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a resolved config that affect the result, by their dotted keys."""
    return _leaves(_essence(config))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that affect the result and are not the same in two resolved configs: key to old and new value.

    A setting that one of the two does not have is None there. Equal fingerprints have no differences.
    """
    before, after = settings(old), settings(new)
    return {
        key: (before.get(key), after.get(key))
        for key in dict.fromkeys([*before, *after])
        if json.dumps(before.get(key), sort_keys=True) != json.dumps(after.get(key), sort_keys=True)
    }


def _leaves(node: Any, key: str = "") -> dict[str, Any]:
    """The values in nested mappings by their dotted keys; a list is one value."""
    if not isinstance(node, Mapping):
        return {key: node}
    return {
        name: value
        for child in node
        for name, value in _leaves(node[child], f"{key}.{child}" if key else str(child)).items()
    }


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
