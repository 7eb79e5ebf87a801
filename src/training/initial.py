"""Initial weights: those of another run or file, and which of them are trained."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from src.runs.checkpoints import load_checkpoint
from src.runs.folder import RunFolder

log = logging.getLogger(__name__)


def head_of(network: nn.Module) -> str:
    """Name of the head: the last module, in order of definition, that has parameters of its own."""
    return [name for name, module in network.named_modules() if any(True for _ in module.parameters(recurse=False))][-1]


def start_from(network: nn.Module, path: Path) -> None:
    """Load trained weights into ``network``. A head of another shape, for other classes, keeps its initial weights.

    Args:
        path: a run folder (its best.ckpt), a checkpoint, or a file of the network's weights: safetensors, or a
            ``state_dict`` saved by torch. No code in it is run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no weights, or they are of another network.
    """
    weights, own, head = _read(path), network.state_dict(), f"{head_of(network)}."
    fitting = {name: value for name, value in weights.items() if name in own and value.shape == own[name].shape}
    anew = own.keys() - fitting.keys()
    if strange := sorted(name for name in anew | (weights.keys() - own.keys()) if not name.startswith(head)):
        raise ValueError(
            f"The weights of init_from={path} are of another network than model: {len(strange)} do not fit, such as "
            f"{strange[0]}. Choose the same model with the same settings."
        )
    network.load_state_dict(fitting, strict=False)
    log.info("initial weights: %d tensors of %s", len(fitting), path)
    if anew:
        log.warning("The head (%s) starts anew: it is of another shape there.", ", ".join(sorted(anew)))


def _read(path: Path) -> Mapping[str, Tensor]:
    """Weights by name."""
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
