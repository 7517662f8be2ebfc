"""The precision of the products of a network on CUDA: IEEE float32, or operands of fewer bits with sums in float32.

It is set where torch keeps it, so that torch's products and the kernels of this package read the same settings:
whether float32 products may use TF32 is a setting of the process, and autocast to a half precision one of the thread.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from phaze_ee.errors import UsageError
from phaze_ee.machine import Precision

HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_AMPERE = 8  # major compute capability of the first cards with TF32 and bfloat16


def checked_precision(precision: Precision, device: torch.device) -> Precision:
    """Return a precision in which a device has products.

    Raises:
        UsageError: the device is no CUDA device and the precision is not float32, or the card is too old.
    """
    if precision == "float32":
        return precision
    if device.type != "cuda":
        raise UsageError(
            f"precision = {precision!r} needs a CUDA device, and the network runs on the {device.type.upper()}: set "
            "precision to 'float32'"
        )
    if precision != "float16" and torch.cuda.get_device_capability(device)[0] < _AMPERE:
        raise UsageError(
            f"precision = {precision!r} needs a card of compute capability 8.0 or later, and "
            f"{torch.cuda.get_device_name(device)} is older: set precision to 'float32' or 'float16'"
        )
    return precision


@contextmanager
def float32_products(precision: Precision, device: torch.device) -> Iterator[None]:
    """Let float32 products on CUDA use TF32 if the precision is ``"tf32"``, else not; sums of halves are in float32.

    These are settings of the process. They are restored at the end.
    """
    if device.type != "cuda":
        yield
        return
    products: list[tuple[Any, str, bool]] = [
        (torch.backends.cuda.matmul, "allow_tf32", precision == "tf32"),
        (torch.backends.cudnn, "allow_tf32", precision == "tf32"),
        (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction", False),
        (torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", False),
    ]
    earlier = [getattr(settings, name) for settings, name, _ in products]
    try:
        for settings, name, wanted in products:
            setattr(settings, name, wanted)
        yield
    finally:
        for (settings, name, _), value in zip(products, earlier, strict=True):
            setattr(settings, name, value)


def half_products(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which the operands of this thread's products are float16 or bfloat16, if that is wanted."""
    if precision not in HALF:
        return nullcontext()
    # A weight is used once in a walk, and a CUDA graph must not read a copy that is gone when it is replayed.
    return torch.autocast(device.type, HALF[precision], cache_enabled=False)


def operand_type(tensor: Tensor) -> torch.dtype:
    """Return the type of the operands of products with this tensor: that of autocast, else its own."""
    kind = tensor.device.type
    halved = tensor.dtype == torch.float32 and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if halved else tensor.dtype


def sums_type(operands: torch.dtype) -> torch.dtype:
    """Return the type in which products of operands are added: float32, or float64."""
    return torch.promote_types(operands, torch.float32)


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor of half precision in float32, any other as it is."""
    return tensor.float() if tensor.dtype in HALF.values() else tensor
