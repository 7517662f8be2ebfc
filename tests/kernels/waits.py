"""Counts the calls at which the host would wait for a CUDA device, also where tensors are on the CPU."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
_READS = {
    getattr(Tensor, name)
    for name in ("tolist", "item", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "__array__")
}
# Numbers of the host: the copy to the device waits.
_COPIES = {torch.tensor, torch.as_tensor, Tensor.new_tensor}
# What they make without a device is on the CPU.
_MAKES = {torch.arange, torch.zeros, torch.ones, torch.full, torch.empty, torch.linspace}
# Their number of results depends on values.
_SIZED = {aten.nonzero.default, aten.masked_select.default, aten._unique2.default, aten.unique_dim.default}


class Waits:
    """What would wait, by name, while this is entered; ``functions`` and ``operations`` may overlap."""

    def __init__(self) -> None:
        self.functions, self.operations = _Functions(), _Operations()

    def __enter__(self) -> "Waits":
        self.functions.__enter__()  # type: ignore[no-untyped-call]
        self.operations.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        self.operations.__exit__(*error)  # type: ignore[no-untyped-call]
        self.functions.__exit__(*error)  # type: ignore[no-untyped-call]

    @property
    def names(self) -> list[str]:
        """The calls in their order; those inside Triton's interpreter, which is no card, are left out."""
        return [*self.functions.names, *self.operations.names]


class _Functions(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        copies = func in _COPIES or (func in _MAKES and (kwargs or {}).get("device") is None)
        if (func in _READS or copies) and not _in_interpreter():
            self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if waits_for_values(func, args, kwargs or {}) and not _in_interpreter():
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def waits_for_values(func: Any, args: Any, kwargs: Any) -> bool:
    if func in _SIZED:
        return True
    if func in (aten.repeat_interleave.Tensor, aten.repeat_interleave.self_Tensor):
        return kwargs.get("output_size") is None
    masks = args[1] if func in (aten.index.Tensor, aten.index_put_.default, aten.index_put.default) else ()
    return any(isinstance(mask, Tensor) and mask.dtype == torch.bool for mask in masks)


def _in_interpreter() -> bool:
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals.get("__name__", "").startswith("triton"):
            return True
    return False
