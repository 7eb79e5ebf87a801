"""Optimisers: torch's own, with one choice added, what weight decay applies to."""

from typing import Any

import torch
from torch import nn


def build_optimizer(
    module: nn.Module, *, algorithm: str, lr: float, decay_norm_and_bias: bool = True, **settings: Any
) -> torch.optim.Optimizer:
    """An optimiser for the parameters of ``module``.

    Args:
        module: whose parameters are optimised.
        algorithm: name of a class in ``torch.optim``, such as ``SGD``.
        lr: learning rate, above 0; a schedule multiplies it.
        decay_norm_and_bias: whether weight decay also applies to parameters with fewer than two dimensions,
            that is to biases and to the scale and shift of normalisation layers.
        settings: further arguments of that class.

    Raises:
        ValueError: a setting is out of its range.
    """
    if lr <= 0:
        raise ValueError(f"optim.lr is {lr}; expected a learning rate above 0, such as 0.1.")
    if settings.get("weight_decay", 0) < 0:
        raise ValueError(f"optim.weight_decay is {settings['weight_decay']}; expected 0 or more.")
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if not decay_norm_and_bias:
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2]},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
    return getattr(torch.optim, algorithm)(groups, lr=lr, **settings)
