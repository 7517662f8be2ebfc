"""What Triton's interpreter lacks (3.7).

It multiplies the bits of bfloat16 as whole numbers, and cuts bits off. In each call of a function of a kernel it looks
through all of Triton's language for what it has to replace, which takes a quarter of the time.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

_dot, _cast = InterpreterBuilder.create_dot, InterpreterBuilder.cast_impl
# The modules of the language that are replaced in the launch that runs.
_replaced: set[str] = set()


def compute_in_bfloat16() -> None:
    """Let the interpreter take operands of bfloat16, and round to it, as a card does."""
    InterpreterBuilder.create_dot = _product
    InterpreterBuilder.cast_impl = _converted


def replace_once() -> None:
    """Let the interpreter replace the functions of the language once in a launch."""
    if hasattr(interpreter, "_patch_lang"):  # that of 3.7
        interpreter._patch_lang = partial(_replaced_once, interpreter._patch_lang)


class _Scope:
    """What a launch has replaced, until it ends."""

    def __init__(self, scope: Any) -> None:
        self._scope = scope

    def restore(self) -> None:
        if self._scope is not None:
            self._scope.restore()
        _replaced.clear()


def _replaced_once(replace: Any, kernel: Any) -> _Scope:
    modules = {value.__name__ for value in kernel.__globals__.values() if value is tl or value is tl.core}
    if modules <= _replaced:
        return _Scope(None)
    scope = _Scope(replace(kernel))
    _replaced.update(modules)
    return scope


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
