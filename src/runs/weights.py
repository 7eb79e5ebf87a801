"""Reading a network's weights, whatever file they are in, and the hash of their content."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from src.runs.checkpoints import load_checkpoint
from src.runs.folder import RunFolder


def hash_of(path: Path) -> str:
    """SHA-256 (64 hexadecimal digits) of the names, types, shapes and values of the weights.

    Args:
        path, raises: see ``read_weights``.
    """
    digest = hashlib.sha256()
    for name, value in sorted(read_weights(path).items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Weights by name.

    Args:
        path: a run folder (its best.ckpt), a checkpoint, or a file of the network's weights: safetensors, or a
            ``state_dict`` saved by torch. No code in it is run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no weights.
    """
    file = RunFolder(path).best if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file} to start from (init_from).")
    if file.suffix == ".ckpt":
        return load_checkpoint(file).weights
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
        content = content.get("state_dict", content.get("model", content))
        weights = {str(name).removeprefix("module."): value for name, value in content.items()}
        if not all(isinstance(value, Tensor) for value in weights.values()):
            raise TypeError("it has other values than tensors")
        return weights
    except ImportError:
        raise ValueError(f"init_from={file} needs safetensors; install it with: uv sync --extra export") from None
    except Exception as error:
        raise ValueError(
            f"init_from={file} is no file of weights ({str(error).splitlines()[0][:200]}); expected a run folder, a "
            "checkpoint, a .safetensors file, or a state_dict saved by torch."
        ) from None
