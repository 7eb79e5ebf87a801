"""Initial weights: those of another run or file, and which of them are trained."""

import logging
from pathlib import Path

from torch import nn

from src.runs.weights import read_weights

log = logging.getLogger(__name__)


def head_of(network: nn.Module) -> str:
    """Name of the head: the last module, in order of definition, that has parameters of its own."""
    return [name for name, module in network.named_modules() if any(True for _ in module.parameters(recurse=False))][-1]


def start_from(network: nn.Module, path: Path) -> None:
    """Load trained weights into ``network``. A head of another shape, for other classes, keeps its initial weights.

    Args:
        path: see ``read_weights``, which also says what else is raised.

    Raises:
        ValueError: the weights are of another network.
    """
    weights, own, head = read_weights(path), network.state_dict(), f"{head_of(network)}."
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
