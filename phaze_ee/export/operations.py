"""What torch's functions of numbers write into a file: for each function, the nodes and the shape of the result."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from phaze_ee.export.graph import onnx_type
from phaze_ee.export.values import Dimensions, Value, as_value, constant, integers, node

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
    shape = without(x.shape, dim)
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
    """Write a power with a known exponent. As in torch, x^-½ is rounded twice: cos θ of equal particles is rounding."""
    if exponent == -0.5:
        return binary("Div", 1.0, node(x.graph, "Sqrt", x, shape=x.shape))
    return square(x) if exponent == 2 else binary("Pow", x, float(exponent))


@writes("clamp")
def _clamp(x: Value, min: float | None = None, max: float | None = None) -> Value:  # noqa: A002
    x = x if min is None else binary("Max", x, min)
    return x if max is None else binary("Min", x, max)


@writes("square")
def square(x: Value) -> Value:
    """Write a square."""
    return binary("Mul", x, x)


@writes("max")
def _max(x: Value, dim: int, keepdim: bool = False) -> tuple[Value]:
    return (reduce("ReduceMax", x, dim, keepdim),)


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


def without(shape: Dimensions, dim: int) -> Dimensions:
    """Return a shape without one dimension."""
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
