"""Values of a file that is being written, in place of tensors.

A :class:`Value` takes part in torch's own functions and in the operators of Python. Each writes a node and returns the
value that the node computes. So exit heads, links, scores and policies are written into a file by being called: there
is no second form of them, and those of a user work too. The functions are in :mod:`phaze_ee.export.functions`,
:mod:`phaze_ee.export.shaping` and :mod:`phaze_ee.export.operations`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phaze_ee.errors import UsageError
from phaze_ee.export.graph import Graph

Dimensions = tuple[int | None, ...]


class Value:
    """A tensor that a file computes.

    Attributes:
        graph: the file.
        shape: its dimensions; None where they are known only when the file runs.
        dtype: its type.
        known: the one number that all its elements are, where that is known.
        nonnegative: whether no element is below 0.
    """

    nonnegative = False

    def __init__(
        self, graph: Graph, name: str, shape: Dimensions, dtype: torch.dtype, known: float | None = None
    ) -> None:
        self.graph, self._name, self.shape, self.dtype, self.known = graph, name, shape, dtype, known

    @property
    def name(self) -> str:
        """The name in the file."""
        return self._name

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return written(function.__name__)(*args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(written(name), self)

    def __len__(self) -> int:
        length = self.shape[0]
        if length is None:
            raise UsageError("this network's exits ask for the number of jets, which a file does not know")
        return length

    def __iter__(self) -> Iterator["Value"]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: Any) -> "Value":
        return self._write("getitem", index)

    def __add__(self, other: Any) -> "Value":
        return self._write("add", other)

    def __radd__(self, other: Any) -> "Value":
        return self._write("add", other)

    def __sub__(self, other: Any) -> "Value":
        return self._write("sub", other)

    def __rsub__(self, other: Any) -> "Value":
        return self._write("rsub", other)

    def __mul__(self, other: Any) -> "Value":
        return self._write("mul", other)

    def __rmul__(self, other: Any) -> "Value":
        return self._write("mul", other)

    def __truediv__(self, other: Any) -> "Value":
        return self._write("div", other)

    def __rtruediv__(self, other: Any) -> "Value":
        return self._write("rdiv", other)

    def __matmul__(self, other: Any) -> "Value":
        return self._write("matmul", other)

    def __neg__(self) -> "Value":
        return self._write("neg")

    def replace(self, other: "Value") -> None:
        """Let this value be another of the same shape from now on, for functions that work in place."""
        self._name = other.name

    def __pow__(self, other: Any) -> "Value":
        return self._write("pow", other)

    def __mod__(self, other: Any) -> "Value":
        return self._write("remainder", other)

    def __ge__(self, other: Any) -> "Value":
        return self._write("ge", other)

    def __gt__(self, other: Any) -> "Value":
        return self._write("gt", other)

    def __le__(self, other: Any) -> "Value":
        return self._write("le", other)

    def __lt__(self, other: Any) -> "Value":
        return self._write("lt", other)

    def __eq__(self, other: object) -> "Value":  # type: ignore[override]
        return self._write("eq", other)

    def __ne__(self, other: object) -> "Value":  # type: ignore[override]
        return ~self._write("eq", other)

    def __and__(self, other: Any) -> "Value":
        return self._write("logical_and", other)

    def __or__(self, other: Any) -> "Value":
        return self._write("logical_or", other)

    def __invert__(self) -> "Value":
        return self._write("logical_not")

    __hash__ = object.__hash__

    def _write(self, function: str, *args: Any) -> "Value":
        value: Value = written(function)(self, *args)
        return value


class Later(Value):
    """A value whose nodes are written only where it is first used: perhaps in a branch that few jets reach."""

    def __init__(self, like: Value, shape: Dimensions, write: Callable[[], Value]) -> None:
        super().__init__(like.graph, "", shape, like.dtype)
        self._write_now = write

    @property
    def name(self) -> str:
        if not self._name:
            self._name = self._write_now().name
        return self._name


class Transposed(Later):
    """Rows (V, C) that the file has as columns (C, V), which a product of matrices takes as they are."""

    def __init__(self, column_CV: Value) -> None:
        channels, count = column_CV.shape
        super().__init__(column_CV, (count, channels), lambda: written("permute")(column_CV, 1, 0))
        self.column_CV = column_CV


class Stacked(Later):
    """Values side by side along a new first dimension."""

    def __init__(self, parts: Sequence[Value]) -> None:
        self.parts = tuple(parts)
        shape = (len(self.parts), *self.parts[0].shape)
        super().__init__(self.parts[0], shape, lambda: written("stack_now")(self.parts))

    def __iter__(self) -> Iterator[Value]:
        return iter(self.parts)

    def __getitem__(self, index: Any) -> Value:
        if isinstance(index, int):
            return self.parts[index]
        if isinstance(index, tuple) and isinstance(index[0], int):
            return self.parts[index[0]][index[1:]]
        return super().__getitem__(index)


class Scaled(Later):
    """Rows times a scale plus a shift, which a linear layer takes into its weights."""

    def __init__(self, row_VC: Value, scale_C: Tensor, shift_C: Tensor) -> None:
        super().__init__(row_VC, row_VC.shape, lambda: row_VC * scale_C + shift_C)
        self.row_VC, self.scale_C, self.shift_C = row_VC, scale_C, shift_C

    def into(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the weight (C, C_out) and the bias of a layer that acts on the rows without scale and shift."""
        wide = weight.double()
        shifted = self.shift_C.double() @ wide
        bias = shifted if bias is None else shifted + bias.double()
        return (self.scale_C.double()[:, None] * wide).to(self.dtype), bias.to(self.dtype)


def written(function: str) -> Callable[..., Any]:
    """Return what writes a function of torch into a file.

    Raises:
        UsageError: nothing does.
    """
    from phaze_ee.export.functions import OPERATIONS  # they need the classes above

    if function not in OPERATIONS:
        raise UsageError(f"an exit uses torch's {function!r}, which export cannot write into an ONNX file")
    return OPERATIONS[function]


def node(
    graph: Graph,
    operator: str,
    *inputs: Value,
    shape: Dimensions,
    dtype: torch.dtype | None = None,
    **attributes: Any,
) -> Value:
    """Write a node with one output; its type is that of its first input unless ``dtype`` is given."""
    (name,) = graph.node(operator, *(value.name for value in inputs), **attributes)
    return Value(graph, name, shape, dtype or inputs[0].dtype)


def constant(graph: Graph, content: Any, dtype: torch.dtype | None = None) -> Value:
    """Return numbers as a constant of the file, in the type of the network unless ``dtype`` is given."""
    tensor = torch.as_tensor(content, dtype=torch.float64 if isinstance(content, float) else None)
    tensor = tensor.detach().cpu().to(dtype or graph.dtype)
    known = float(tensor) if tensor.dim() == 0 else None
    return Value(graph, graph.constant(tensor.numpy()), tuple(tensor.shape), tensor.dtype, known)


def integers(graph: Graph, *numbers: int) -> Value:
    """Return whole numbers as a constant with one dimension."""
    return Value(graph, graph.constant(np.array(numbers, np.int64)), (len(numbers),), torch.int64)


def as_value(like: Value, content: "Value | Tensor | float") -> Value:
    """Return a value, or numbers as a constant of the type of ``like``."""
    return content if isinstance(content, Value) else constant(like.graph, content, like.dtype)
