"""torch's and timm's optimisers, with a choice of the parameters that weight decay applies to."""

import inspect
import math
from typing import Any

import torch
from torch import nn

from src.models.library import check_name


def build_optimizer(
    module: nn.Module,
    *,
    algorithm: str,
    lr: float,
    decay_norm_and_bias: bool = True,
    fused: bool | None = None,
    **settings: Any,
) -> torch.optim.Optimizer:
    """Build an optimiser for the parameters of ``module``.

    Args:
        module: the module to optimise.
        algorithm: name of a class in ``torch.optim``, such as ``SGD``.
        lr: learning rate, above 0; a schedule multiplies it.
        decay_norm_and_bias: whether weight decay also applies to parameters with fewer than two dimensions:
            biases, and the scale and shift of normalisation layers.
        fused: whether one kernel updates weights and momentum, instead of one per term of the formula. None: if
            the class and the device support it.
        settings: further arguments of that class.

    Raises:
        ValueError: a setting is out of its range.
    """
    _check(lr, settings.get("weight_decay", 0), decay_norm_and_bias)
    cls: Any = getattr(torch.optim, algorithm, None)
    if not isinstance(cls, type):
        raise ValueError(f"optim.algorithm is {algorithm!r}; expected the name of a class in torch.optim, such as SGD.")
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if not decay_norm_and_bias:
        undecayed = {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}
        groups = [{"params": [p for p in parameters if p.ndim >= 2]}, undecayed]
    if fused is None and "fused" in inspect.signature(cls).parameters:
        fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters) or None
    optimizer = cls(groups, lr=lr, **({} if fused is None else {"fused": fused}), **settings)
    if cls is torch.optim.SGD and optimizer.defaults["fused"] and settings.get("momentum"):
        # torch's kernel cannot begin with parameters that some steps leave out. From zero, the first step is the same.
        for parameter in parameters if not settings.get("dampening") else ():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def build_timm_optimizer(
    module: nn.Module, *, name: str, lr: float, decay_norm_and_bias: bool = True, **settings: Any
) -> torch.optim.Optimizer:
    """Build an optimiser of timm for the parameters of ``module``.

    Args:
        module, lr, decay_norm_and_bias: see ``build_optimizer``.
        name: as in ``timm.optim.list_optimizers()``, such as ``lamb``.
        settings: further arguments of ``timm.optim.create_optimizer_v2`` and of the optimiser.

    Raises:
        ValueError: a setting is out of its range or unknown, or timm is not installed.
    """
    _check(lr, settings.get("weight_decay", 0), decay_norm_and_bias)
    try:
        from timm.optim import create_optimizer_v2, list_optimizers
    except ImportError:
        raise ValueError(f"The optimiser {name} needs timm; install it with: uv sync --extra timm") from None
    check_name("timm has no optimiser", name, [str(known) for known in list_optimizers()])
    try:
        return create_optimizer_v2(module, name, lr=lr, filter_bias_and_bn=not decay_norm_and_bias, **settings)
    except TypeError as error:
        raise ValueError(f"timm's optimiser {name} cannot be built with these settings of optim: {error}.") from None


def _check(lr: Any, decay: Any, decay_norm_and_bias: Any) -> None:
    if not (isinstance(lr, int | float) and 0 < lr < math.inf):
        raise ValueError(f"optim.lr is {lr!r}; expected a learning rate above 0, such as 0.1.")
    if not (isinstance(decay, int | float) and 0 <= decay < math.inf):
        raise ValueError(f"optim.weight_decay is {decay!r}; expected 0 or more.")
    if not isinstance(decay_norm_and_bias, bool):  # the string "no" would count as true
        raise ValueError(f"optim.decay_norm_and_bias is {decay_norm_and_bias!r}; expected true or false.")
