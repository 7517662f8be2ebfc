"""What Triton's interpreter lacks (3.7): it multiplies the bits of bfloat16 as whole numbers, and cuts bits off."""

from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

_dot, _cast = InterpreterBuilder.create_dot, InterpreterBuilder.cast_impl


def compute_in_bfloat16() -> None:
    """Let the interpreter take operands of bfloat16, and round to it, as a card does."""
    InterpreterBuilder.create_dot = _product
    InterpreterBuilder.cast_impl = _converted


def _product(builder: Any, left: Any, right: Any, *sums: Any) -> Any:
    return _dot(builder, _widened(left), _widened(right), *sums)


def _widened(operand: Any) -> Any:
    """Return an operand of bfloat16 in float32, of which its bits are the upper half."""
    if operand.dtype.scalar != tl.bfloat16:
        return operand
    return TensorHandle((operand.data.astype(np.uint32) << 16).view(np.float32), tl.float32)


def _converted(builder: Any, source: Any, wanted: Any) -> Any:
    if (source.dtype.scalar, wanted.scalar) != (tl.float32, tl.bfloat16):
        return _cast(builder, source, wanted)
    rounded = torch.from_numpy(np.ascontiguousarray(source.data)).bfloat16()
    return TensorHandle(rounded.view(torch.int16).numpy().view(np.uint16), tl.bfloat16)
