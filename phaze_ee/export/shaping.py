"""What torch's functions that arrange numbers write into a file: indexing, joining, reshaping."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from phaze_ee.errors import UsageError
from phaze_ee.export.operations import without, writes
from phaze_ee.export.values import Scaled, Stacked, Transposed, Value, as_value, integers, node


@writes("unbind")
def _unbind(x: Value, dim: int = 0) -> tuple[Value, ...]:
    axis = dim % len(x.shape)
    size = x.shape[axis]
    assert size is not None
    return tuple(x[(*[slice(None)] * axis, index)] for index in range(size))


@writes("cat")
def cat(values: Sequence[Any], dim: int = 0) -> Value:
    """Write a concatenation."""
    first = next(value for value in values if isinstance(value, Value))
    parts = [as_value(first, value) for value in values]
    axis = dim % len(first.shape)
    sizes = [part.shape[axis] for part in parts]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    shape = (*first.shape[:axis], total, *first.shape[axis + 1 :])
    result = node(first.graph, "Concat", *parts, shape=shape, axis=axis)
    result.nonnegative = all(part.nonnegative for part in parts)
    return result


@writes("stack")
def _stack(values: Sequence[Value], dim: int = 0) -> Value:
    return Stacked(values) if dim == 0 else cat([unsqueeze(value, dim) for value in values], dim)


@writes("stack_now")
def _stack_now(values: Sequence[Value]) -> Value:
    rows = [unsqueeze(value, 0) for value in values]
    return rows[0] if len(rows) == 1 else cat(rows)


@writes("unsqueeze")
def unsqueeze(x: Value, dim: int) -> Value:
    """Write a new dimension of size 1."""
    axis = dim % (len(x.shape) + 1)
    result = node(x.graph, "Unsqueeze", x, integers(x.graph, axis), shape=(*x.shape[:axis], 1, *x.shape[axis:]))
    result.known, result.nonnegative = x.known, x.nonnegative
    return result


@writes("reshape", "view")
def reshape(x: Value, *shape: int | None) -> Value:
    """Write another shape; −1, or a size that is not known, is what remains."""
    sizes = tuple(None if size == -1 else size for size in shape)
    known = (-1 if size is None else size for size in shape)
    result = node(x.graph, "Reshape", x, integers(x.graph, *known), shape=sizes)
    result.nonnegative = x.nonnegative
    return result


@writes("transpose")
def transpose(x: Value, first: int, second: int) -> Value:
    """Write two dimensions exchanged."""
    order = list(range(len(x.shape)))
    order[first], order[second] = order[second], order[first]
    return permute(x, *order)


@writes("permute")
def permute(x: Value, *order: int) -> Value:
    """Write the dimensions in another order."""
    if isinstance(x, Transposed) and order == (1, 0):
        return x.column_CV
    return node(x.graph, "Transpose", x, shape=tuple(x.shape[axis] for axis in order), perm=list(order))


@writes("getitem")
def _getitem(x: Value, index: Any) -> Value:
    items = index if isinstance(index, tuple) else (index,)
    dots = [place for place, item in enumerate(items) if item is Ellipsis]
    if dots:
        named = sum(item is not None for item in items) - 1
        items = (*items[: dots[0]], *[slice(None)] * (len(x.shape) - named), *items[dots[0] + 1 :])
    axis = 0
    for item in items:
        if item is None:
            x, axis = unsqueeze(x, axis), axis + 1
        elif isinstance(item, slice):
            x, axis = _slice(x, item, axis), axis + 1
        elif isinstance(item, int):
            x = gather(x, Value(x.graph, x.graph.constant(np.array(item)), (), torch.int64), axis)
        elif isinstance(item, Value) and item.dtype == torch.int64:
            x, axis = gather(x, item, axis), axis + len(item.shape)
        else:
            raise UsageError(f"an exit takes {item!r} of its answers, which export cannot write into an ONNX file")
    return x


def gather(x: Value, index: Value, axis: int = 0) -> Value:
    """Write the rows of an index along one dimension."""
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    result = node(x.graph, "Gather", x, index, shape=shape, axis=axis)
    result.known, result.nonnegative = x.known, x.nonnegative
    return result


def rows_between(x: Value, first: Value, last: Value, axis: int = 0) -> Value:
    """Write the rows from one number, of shape (1,), up to another."""
    if isinstance(x, Scaled):
        return Scaled(rows_between(x.row_VC, first, last, axis), x.scale_C, x.shift_C)
    shape = (*x.shape[:axis], None, *x.shape[axis + 1 :])
    return node(x.graph, "Slice", x, first, last, integers(x.graph, axis), shape=shape)


def _slice(x: Value, item: slice, axis: int) -> Value:
    size, first, last = x.shape[axis], item.start or 0, item.stop
    if not first and last is None and item.step in (None, 1):
        return x
    count = None if size is None else len(range(size)[item])
    ends = integers(x.graph, first), integers(x.graph, np.iinfo(np.int64).max if last is None else last)
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    steps = [] if item.step in (None, 1) else [integers(x.graph, item.step)]
    return node(x.graph, "Slice", x, *ends, integers(x.graph, axis), *steps, shape=shape)


@writes("repeat")
def _repeat(x: Value, *times: int) -> Value:
    for axis, count in enumerate(times):
        x = x if count == 1 else cat([x] * count, axis)
    return x


@writes("squeeze")
def _squeeze(x: Value, dim: int) -> Value:
    return node(x.graph, "Squeeze", x, integers(x.graph, dim % len(x.shape)), shape=without(x.shape, dim))


@writes("chunk")
def chunk(x: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    """Write equal parts along a dimension whose size is known."""
    axis = dim % len(x.shape)
    size = x.shape[axis]
    assert size is not None
    part = -(-size // chunks)
    return tuple(x[(*[slice(None)] * axis, slice(first, first + part))] for first in range(0, size, part))


@writes("split")
def _split(x: Value, sizes: Sequence[int], dim: int = 0) -> tuple[Value, ...]:
    starts = np.cumsum([0, *sizes]).tolist()
    axis = dim % len(x.shape)
    before = [slice(None)] * axis
    return tuple(x[(*before, slice(first, last))] for first, last in itertools.pairwise(starts))


@writes("size")
def _size(x: Value, dim: int | None = None) -> Any:
    return x.shape if dim is None else x.shape[dim]


@writes("dim")
def _dim(x: Value) -> int:
    return len(x.shape)
