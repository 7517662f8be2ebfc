"""What torch's functions on values write into a file: for each function, the nodes and the shape of the result."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from phaze_ee.errors import UsageError
from phaze_ee.export.graph import onnx_type
from phaze_ee.export.values import Dimensions, Scaled, Stacked, Value, as_value, constant, integers, node

P = ParamSpec("P")
Result = TypeVar("Result")

# By the name of the function, which is also that of the tensor's method.
OPERATIONS: dict[str, Callable[..., Any]] = {}

# Before these versions, an operator has its axes as an attribute.
_AXES_AS_INPUT = {"ReduceMean": 18, "ReduceMax": 18, "ReduceMin": 18, "ReduceSumSquare": 18}
_UNARY = {
    "exp": "Exp",
    "log": "Log",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "sqrt": "Sqrt",
    "neg": "Neg",
    "abs": "Abs",
    "floor": "Floor",
    "softplus": "Softplus",
    "logical_not": "Not",
}
_BINARY = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "maximum": "Max",
    "minimum": "Min",
    "logical_and": "And",
    "logical_or": "Or",
}
_COMPARISONS = {"ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual", "lt": "Less", "eq": "Equal"}
_REDUCTIONS = {"amax": "ReduceMax", "amin": "ReduceMin", "sum": "ReduceSum", "mean": "ReduceMean"}
_TERMS = 28  # of series, for an error below 2e-14
_TINY = 1e-30
_UNCHANGED = ("detach", "contiguous", "clone", "dropout")


def writes(*functions: str) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Register what writes these functions."""

    def added(write: Callable[P, Result]) -> Callable[P, Result]:
        OPERATIONS.update(dict.fromkeys(functions, write))
        return write

    return added


@writes("relu")
def relu(x: Value, inplace: bool = False) -> Value:
    """Write a ReLU, and note that nothing in it is negative."""
    result = node(x.graph, "Relu", x, shape=x.shape)
    result.nonnegative = True
    return result


def _unary(operator: str) -> Callable[..., Value]:
    return lambda x, *_, **__: node(x.graph, operator, x, shape=x.shape)


def binary(operator: str, x: Any, y: Any, dtype: torch.dtype | None = None) -> Value:
    """Write an operator on two values or numbers, with broadcasting."""
    like = x if isinstance(x, Value) else y
    x, y = as_value(like, x), as_value(like, y)
    if x.dtype != y.dtype:  # a mask or a count and a number
        x, y = cast(x, x.graph.dtype), cast(y, x.graph.dtype)
    return node(like.graph, operator, x, y, shape=broadcast(x.shape, y.shape), dtype=dtype)


def broadcast(*shapes: Dimensions) -> Dimensions:
    """Return the shape of an operator on values of these shapes."""
    rank = max(map(len, shapes))
    columns = zip(*((*([1] * (rank - len(shape))), *shape) for shape in shapes), strict=True)
    return tuple(_common(sizes) for sizes in columns)


def _common(sizes: Sequence[int | None]) -> int | None:
    others = [size for size in sizes if size != 1]
    return 1 if not others else next((size for size in others if size is not None), None)


def _compare(function: str) -> Callable[[Value, Any], Value]:
    def write(x: Value, y: Any) -> Value:
        result = binary(_COMPARISONS[function], x, y, torch.bool)
        if isinstance(y, float):  # all numbers reach −∞; NaN does not, and such a jet has no answer anyway
            decided = {"ge": y == -np.inf or None, "gt": False if y == np.inf else None}.get(function)
            if decided is None and x.known is not None:
                decided = getattr(torch, function)(torch.tensor(x.known), y).item()
            result.known = decided
        return result

    return write


@writes("softmax")
def _softmax(x: Value, dim: int, **_: Any) -> Value:
    result = node(x.graph, "Softmax", x, shape=x.shape, axis=dim)
    result.nonnegative = True
    return result


@writes("log_softmax")
def _log_softmax(x: Value, dim: int, **_: Any) -> Value:
    return node(x.graph, "LogSoftmax", x, shape=x.shape, axis=dim)


def reduce(operator: str, x: Value, dim: int | Sequence[int], keepdim: bool = False) -> Value:
    """Write a reduction over some dimensions."""
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    axes = [axis % len(x.shape) for axis in dims]
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape) if keepdim or axis not in axes)
    if x.graph.opset >= _AXES_AS_INPUT.get(operator, 13):
        return node(x.graph, operator, x, integers(x.graph, *axes), shape=shape, keepdims=int(keepdim))
    return node(x.graph, operator, x, shape=shape, axes=axes, keepdims=int(keepdim))


def _reduction(operator: str) -> Callable[..., Value]:
    return lambda x, dim, keepdim=False: reduce(
        operator, cast(x, torch.int64) if x.dtype == torch.bool else x, dim, keepdim
    )


@writes("argmax")
def _argmax(x: Value, dim: int) -> Value:
    shape = _without(x.shape, dim)
    return node(x.graph, "ArgMax", x, shape=shape, dtype=torch.int64, axis=dim % len(x.shape), keepdims=0)


class Top(NamedTuple):
    """The result of ``topk``."""

    values: Value
    indices: Value


@writes("topk")
def top(x: Value, k: int | Value, dim: int = -1, largest: bool = True, sorted: bool = True) -> Top:  # noqa: A002
    """Write a selection of the k largest or smallest; k may be a value."""
    count = k if isinstance(k, Value) else integers(x.graph, k)
    axis = dim % len(x.shape)
    shape = (*x.shape[:axis], k if isinstance(k, int) else None, *x.shape[axis + 1 :])
    settings = {"axis": axis, "largest": int(largest), "sorted": int(sorted)}
    names = x.graph.node("TopK", x.name, count.name, outputs=2, **settings)
    return Top(Value(x.graph, names[0], shape, x.dtype), Value(x.graph, names[1], shape, torch.int64))


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


@writes("where")
def where(condition: Value, x: Any, y: Any) -> Value:
    """Write a choice between two values."""
    like = next(value for value in (x, y) if isinstance(value, Value))
    x, y = as_value(like, x), as_value(like, y)
    shape = broadcast(condition.shape, x.shape, y.shape)
    return node(like.graph, "Where", condition, x, y, shape=shape, dtype=like.dtype)


def _method_where(first: Value, *others: Any) -> Value:
    # torch.where(condition, x, y) and x.where(condition, y)
    return where(first, *others) if first.dtype == torch.bool else where(others[0], first, others[1])


@writes("masked_fill")
def _masked_fill(x: Value, mask: Value, number: float) -> Value:
    return where(mask, number, x)


@writes("masked_fill_")
def _masked_fill_in_place(x: Value, mask: Value, number: float) -> Value:
    x.replace(where(mask, number, x))
    return x


@writes("pow")
def power(x: Value, exponent: float) -> Value:
    """Write a power with a known exponent."""
    return square(x) if exponent == 2 else binary("Pow", x, float(exponent))


@writes("norm")
def norm(x: Value, dim: int, keepdim: bool = False) -> Value:
    """Write the lengths of vectors."""
    length: Value = reduce("ReduceSum", square(x), dim, keepdim).sqrt()
    return length


@writes("linalg_cross")
def cross(x: Value, y: Value, dim: int = -1) -> Value:
    """Write the cross products of vectors with three components."""
    (x1, x2, x3), (y1, y2, y3) = chunk(x, 3, dim), chunk(y, 3, dim)
    return cat([x2 * y3 - x3 * y2, x3 * y1 - x1 * y3, x1 * y2 - x2 * y1], dim)


@writes("clamp")
def _clamp(x: Value, min: float | None = None, max: float | None = None) -> Value:  # noqa: A002
    x = x if min is None else binary("Max", x, min)
    return x if max is None else binary("Min", x, max)


@writes("square")
def square(x: Value) -> Value:
    """Write a square."""
    return binary("Mul", x, x)


@writes("matmul")
def matmul(x: Any, y: Any) -> Value:
    """Write a product of matrices, or of a matrix and a vector."""
    if isinstance(x, Scaled) and isinstance(y, Tensor):
        return gemm(None, x, y)
    like = x if isinstance(x, Value) else y
    x, y = as_value(like, x), as_value(like, y)
    shape = x.shape[:-1] if len(y.shape) == 1 else (*x.shape[:-1], y.shape[-1])
    return node(like.graph, "MatMul", x, y, shape=shape)


@writes("addmm")
def gemm(bias: Tensor | None, x: Value, weight: Tensor, out: None = None) -> Value:
    """Write x · weight + bias for the rows of x."""
    if isinstance(x, Scaled):
        weight, bias = x.into(weight, bias)
        x = x.row_VC
    if bias is None:
        return matmul(x, weight)
    factors = as_value(x, weight), as_value(x, bias)
    return node(x.graph, "Gemm", x, *factors, shape=(x.shape[0], weight.shape[1]))


@writes("linear")
def linear(x: Value, weight: Tensor, bias: Tensor | None = None) -> Value:
    """Write a linear layer on the last dimension."""
    if len(x.shape) == 2 or bias is None:
        return gemm(bias, x, weight.T)
    return binary("Add", matmul(x, weight.T), bias)


@writes("conv2d", "conv1d")
def convolution(x: Value, weight: Tensor, bias: Tensor | None = None, *_: Any) -> Value:
    """Write a convolution with a kernel of one slot, on (N, C, …) with at most one size unknown."""
    sizes = x.shape[2:]
    flat = matmul(weight.flatten(1), reshape(x, 1, x.shape[1], -1))
    result = reshape(flat, 1, weight.shape[0], *sizes)
    return result if bias is None else result + bias.view(-1, *[1] * len(sizes))


@writes("batch_norm")
def batch_norm(
    x: Value, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, *, eps: float = 1e-5, **_: Any
) -> Value:
    """Write a BatchNorm in evaluation, on (N, C, …)."""
    scale_C = weight.double() / torch.sqrt(variance.double() + eps)
    shift_C = bias.double() - mean.double() * scale_C
    shape = (-1, *[1] * (len(x.shape) - 2))
    return x * scale_C.view(shape) + shift_C.view(shape)


@writes("max")
def _max(x: Value, dim: int, keepdim: bool = False) -> tuple[Value]:
    return (reduce("ReduceMax", x, dim, keepdim),)


@writes("repeat")
def _repeat(x: Value, *times: int) -> Value:
    for axis, count in enumerate(times):
        x = x if count == 1 else cat([x] * count, axis)
    return x


@writes("squeeze")
def _squeeze(x: Value, dim: int) -> Value:
    return node(x.graph, "Squeeze", x, integers(x.graph, dim % len(x.shape)), shape=_without(x.shape, dim))


@writes("layer_norm")
def layer_norm(x: Value, _: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Value:
    """Write a normalisation of the last dimension, with the operator where the opset has it."""
    if x.graph.opset >= 17 and weight is not None and bias is not None:
        inputs = as_value(x, weight), as_value(x, bias)
        return node(x.graph, "LayerNormalization", x, *inputs, shape=x.shape, axis=-1, epsilon=eps)
    centred = x - reduce("ReduceMean", x, -1, keepdim=True)
    spread: Value = (reduce("ReduceMean", square(centred), -1, keepdim=True) + eps).sqrt()
    result = centred / spread
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


@writes("rms_norm")
def rms_norm(x: Value, _: Any, weight: Tensor | None = None, eps: float | None = None) -> Value:
    """Write a normalisation of the last dimension by its root mean square."""
    smallest = torch.finfo(x.dtype).eps if eps is None else eps
    spread: Value = (reduce("ReduceMean", square(x), -1, keepdim=True) + smallest).sqrt()
    return x / spread if weight is None else x / spread * weight


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


@writes("gelu")
def gelu(x: Value, approximate: str = "none") -> Value:
    """Write a GELU with the error function, as ONNX Runtime knows it."""
    if approximate != "none":
        raise UsageError("an exit uses GELU with approximate = 'tanh', which export cannot write; use 'none'")
    if x.graph.opset >= 20 and x.dtype == torch.float32:
        return node(x.graph, "Gelu", x, shape=x.shape)
    share: Value = (x / 2**0.5).erf() + 1.0
    return x * share * 0.5


@writes("erf")
def _erf(x: Value) -> Value:
    return node(x.graph, "Erf", x, shape=x.shape) if x.dtype == torch.float32 else _erf_in_double(x)


def _erf_in_double(x: Value) -> Value:
    """Write the error function for double precision, in which ONNX Runtime has none.

    erf(x) = sign(x) (1 − exp(−x²) erfcx(|x|)), with a Chebyshev series of erfcx in 4 / (2 + |x|) − 1.
    """
    from scipy.special import erfcx

    size: Value = x.abs()
    scaled = _series(lambda u: erfcx(4 / (u + 1 + 1e-300) - 2), 4.0 / (size + 2.0) - 1.0)
    decay: Value = (-square(x)).exp()
    return where(x < 0.0, decay * scaled - 1.0, 1.0 - decay * scaled)


def _series(function: Callable[[Any], Any], u: Value) -> Value:
    """Write a function of numbers between −1 and 1 as a Chebyshev series, by Clenshaw's recurrence."""
    series = np.polynomial.chebyshev.chebinterpolate(function, _TERMS)
    twice_u, later, last = u * 2.0, u * 0.0, u * 0.0
    for coefficient in reversed(series[1:]):
        later, last = twice_u * later - last + float(coefficient), later
    return twice_u * later * 0.5 - last + float(series[0])


@writes("atan2")
def atan2(y: Value, x: Value) -> Value:
    """Write the angle of a vector; that of the zero vector is 0."""
    ratio = y / where(x == 0.0, _TINY, x)
    quarter = node(x.graph, "Atan", ratio, shape=ratio.shape) if x.dtype == torch.float32 else _atan_in_double(ratio)
    return where(x < 0.0, where(y < 0.0, quarter - np.pi, quarter + np.pi), quarter)


def _atan_in_double(x: Value) -> Value:
    """Write the arctangent for double precision, in which ONNX Runtime has none."""
    size: Value = x.abs()
    inverse = 1.0 / where(size > 1.0, size, 1.0)
    small = _series(lambda u: np.arctan((u + 1) / 2), where(size > 1.0, inverse, size) * 2.0 - 1.0)
    angle = where(size > 1.0, np.pi / 2 - small, small)
    return where(x < 0.0, -angle, angle)


@writes("asinh")
def asinh(x: Value) -> Value:
    """Write the inverse hyperbolic sine."""
    if x.dtype == torch.float32:
        return node(x.graph, "Asinh", x, shape=x.shape)
    size: Value = x.abs()
    result: Value = (size + power(square(x) + 1.0, 0.5)).log()
    return where(x < 0.0, -result, result)


@writes("acos")
def _acos(x: Value) -> Value:
    return atan2(power(1.0 - square(x), 0.5), x)


@writes("remainder")
def remainder(x: Value, divisor: float) -> Value:
    """Write a remainder with the sign of the divisor."""
    whole: Value = (x / divisor).floor()
    return x - whole * divisor


@writes("silu")
def _silu(x: Value, inplace: bool = False) -> Value:
    share: Value = x.sigmoid()
    return x * share


@writes("to", "type")
def cast(x: Value, dtype: Any) -> Value:
    """Write another type."""
    if not isinstance(dtype, torch.dtype) or dtype == x.dtype:
        return x
    return node(x.graph, "Cast", x, shape=x.shape, dtype=dtype, to=onnx_type(dtype))


def _filled(number: float) -> Callable[[Value], Value]:
    return lambda x: full_like(x, number)


@writes("full_like")
def full_like(x: Value, number: float) -> Value:
    """Write one number in the shape of a value; it is known when the file is written."""
    single = constant(x.graph, number, x.dtype)
    if None in x.shape:
        size = shape_of(x)
        filled = node(x.graph, "Expand", single, size, shape=x.shape)
    else:
        filled = constant(x.graph, torch.full([size or 0 for size in x.shape], number), x.dtype)
    filled.known = float(number)
    return filled


def shape_of(x: Value, first: int = 0, last: int | None = None) -> Value:
    """Write the sizes of some dimensions."""
    count = len(range(len(x.shape))[first:last])
    ends = {"start": first} | ({} if last is None else {"end": last})
    return node(x.graph, "Shape", x, shape=(count,), dtype=torch.int64, **ends)


@writes("new_tensor")
def _new_tensor(x: Value, content: Any) -> Tensor:
    return torch.tensor(content, dtype=x.dtype)


@writes("size")
def _size(x: Value, dim: int | None = None) -> Any:
    return x.shape if dim is None else x.shape[dim]


@writes("dim")
def _dim(x: Value) -> int:
    return len(x.shape)


def _without(shape: Dimensions, dim: int) -> Dimensions:
    axis = dim % len(shape)
    return (*shape[:axis], *shape[axis + 1 :])


OPERATIONS |= {name: _unary(operator) for name, operator in _UNARY.items()}
OPERATIONS |= {name: lambda x, y, operator=operator: binary(operator, x, y) for name, operator in _BINARY.items()}
OPERATIONS |= {name: _compare(name) for name in _COMPARISONS}
OPERATIONS |= {name: _reduction(operator) for name, operator in _REDUCTIONS.items()}
OPERATIONS |= {name: lambda x, *_, **__: x for name in _UNCHANGED}
OPERATIONS |= {
    "rsub": lambda x, y: binary("Sub", as_value(x, y), x),
    "rdiv": lambda x, y: binary("Div", as_value(x, y), x),
    "relu_": relu,
    "where": _method_where,
    "zeros_like": _filled(0.0),
    "ones_like": _filled(1.0),
    "float": lambda x: cast(x, torch.float32),
    "double": lambda x: cast(x, torch.float64),
}
