"""A GPU that is pretended, on a machine without one: tensors on ``cuda`` have a shape and a dtype, and no values."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedOperatorException,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

from src.augment import operations
from src.training.classifier import Classifier

_COPY, _COPY_INTO, _PIN = (getattr(torch.ops.aten, name).default for name in ("_to_copy", "copy_", "_pin_memory"))
_INDEX = torch.ops.aten.index.Tensor
_CARD = {"is_available": True, "device_count": 1, "current_device": 0, "get_device_name": "pretended",
         "get_device_capability": (9, 0), "mem_get_info": (1 << 33, 1 << 33), "is_bf16_supported": True,
         "set_device": None, "synchronize": None, "empty_cache": None}  # fmt: skip


class Pretended(TorchDispatchMode):
    """What is on the CPU is computed, what is on ``cuda`` is a FakeTensor; mixing the two raises, as on a GPU.

    Where the host reads values of the GPU it gets ones.

    Attributes:
        waits: the operations so far for which the host waits for a GPU: it reads values, or copies some there and does
            not say ``non_blocking``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and func.namespace == "aten":  # operations arrive whole
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, FakeTensor)]
        target = torch.device(kwargs.get("device") or ("cuda" if there else "cpu")).type
        if func is _PIN:
            return args[0]
        if not there and target == "cpu":
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func is _COPY and not there:
            self.waits += [] if kwargs.get("non_blocking") else [str(func)]
            dtype = kwargs.get("dtype") or args[0].dtype
            return torch.empty_strided(args[0].shape, args[0].stride(), dtype=dtype, device="cuda")
        if func is _INDEX and len(there) < len(tensors):  # which FakeTensors let pass
            if not isinstance(args[0], FakeTensor):
                raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
            self.waits.append(str(func))
        if target == "cpu" or (func is _COPY_INTO and not isinstance(args[0], FakeTensor)):
            return self._read(func, *args, **kwargs)
        try:
            return func(*args, **kwargs)
        except UnsupportedOperatorException:  # of fused optimisers and of GradScaler, which change their arguments
            if func._schema.returns or len(there) < len(tensors):
                raise
            return None
        except (DataDependentOutputException, DynamicOutputShapeException):
            found = self._read(func, *args, **kwargs)
            return tree_map_only(Tensor, lambda x: torch.empty(x.shape, dtype=x.dtype, device="cuda"), found)

    def _read(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        self.waits.append(str(func))
        with unset_fake_temporarily():
            arguments, named = with_ones((args, kwargs))
            return func(*arguments, **named)


def with_ones(tree: Any) -> Any:
    """The same with tensors of ones, on the CPU, for those of the pretended GPU."""
    return tree_map_only(FakeTensor, lambda x: torch.ones(x.shape, dtype=x.dtype), tree)


@contextmanager
def pretended_gpu() -> Iterator[Pretended]:
    """Within it there is a GPU. It has no backward pass, for which torch needs a real one: gradients appear at once.

    Tracing, as for TensorBoard's graph, does not admit such tensors.
    """
    tables, save = operations._apply_all, torch.save

    def apply_all(*arguments: Any) -> Tensor:
        with _disable_current_modes():  # of the CPU alone; thousands of operations
            return tables(*arguments)

    def backward(self: Classifier, loss: Tensor) -> None:
        for parameter in self.network.parameters():
            parameter.grad = torch.empty_like(parameter)

    with (
        FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False),  # before the card: it looks for one
        Pretended() as gpu,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in _CARD.items():
            patch.setattr(torch.cuda, name, lambda *_, _value=value, **__: _value)
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch, "save", lambda content, file: save(with_ones(content), file))
        patch.setattr(torch.utils, "swap_tensors", lambda *_: None)  # the parameters stay there when a run has ended
        patch.setattr(operations, "_apply_all", apply_all)
        patch.setattr(Classifier, "backward", backward)
        try:
            yield gpu
        finally:
            for function in vars(operations).values():
                if hasattr(function, "cache_clear"):
                    function.cache_clear()
