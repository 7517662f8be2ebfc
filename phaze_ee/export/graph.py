"""The nodes of an ONNX file while it is written, in nested scopes: branches of ``If``, bodies of ``Loop``.

Names are unique in the whole file, and each scope has its own constants, because old versions of ONNX Runtime look for
some constants in the scope of their node alone.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Array = npt.NDArray[np.generic]
Shape = Sequence[int | str | None]

_TYPES = {
    torch.float32: TensorProto.FLOAT,
    torch.float64: TensorProto.DOUBLE,
    torch.int64: TensorProto.INT64,
    torch.bool: TensorProto.BOOL,
}


@final
@dataclass
class Scope:
    """The nodes and constants of one graph, and the outputs of each node by what it computes."""

    nodes: list[NodeProto] = field(default_factory=list)
    outputs: dict[str, list[str]] = field(default_factory=dict)
    constants: dict[tuple[Any, ...], TensorProto] = field(default_factory=dict)


@final
class Graph:
    """Writes nodes into the innermost open scope.

    Args:
        opset: the version of the standard operators.
        dtype: the type of the network's numbers.
    """

    def __init__(self, opset: int, dtype: torch.dtype) -> None:
        self.opset, self.dtype = opset, dtype
        self._numbers = itertools.count()
        self._scopes = [Scope()]
        self._contents: dict[str, tuple[Any, ...]] = {}  # of constants: each scope has its own of the same content

    def node(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs. The same node is not added twice."""
        plain = not any(isinstance(value, GraphProto | TensorProto) for value in attributes.values())
        content = [self._contents.get(name, name) for name in inputs]
        key = f"{operator} {content} {outputs} {sorted(attributes.items())}" if plain else None
        for scope in self._scopes if key else ():
            if key in scope.outputs:
                return scope.outputs[key]
        names = [self.new_name(operator) for _ in range(outputs)]
        self._scopes[-1].nodes.append(helper.make_node(operator, list(inputs), names, names[0], **attributes))
        if key:
            self._scopes[-1].outputs[key] = names
        return names

    def copy(self, name: str) -> str:
        """Add a node that returns a value as it is, as results of a branch that are made outside of it need."""
        copied = self.new_name("copy")
        self._scopes[-1].nodes.append(helper.make_node("Identity", [name], [copied], copied))
        return copied

    def new_name(self, what: str) -> str:
        """Return a name that nothing in the file has yet."""
        return f"{what}_{next(self._numbers)}"

    def constant(self, array: Array) -> str:
        """Return the name of a constant of the innermost scope."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = array.dtype.str, array.shape, array.tobytes()
        constants = self._scopes[-1].constants
        if key not in constants:
            constants[key] = numpy_helper.from_array(array, self.new_name("constant"))
            self._contents[constants[key].name] = (*key[:2], hashlib.sha256(key[2]).hexdigest())
        return constants[key].name

    def constant_node(self, array: Array) -> str:
        """Return a constant as the output of a node, which the results of a branch must be."""
        return self.node("Constant", value=numpy_helper.from_array(np.asarray(array)))[0]

    def rename(self, name: str, wanted: str) -> None:
        """Give a value the name of an output of the file."""
        self._scopes[-1].nodes.append(helper.make_node("Identity", [name], [wanted], wanted))

    def open(self) -> None:
        """Open a scope inside the innermost one. Everything written so far is visible in it."""
        self._scopes.append(Scope())

    def close(self, name: str, inputs: Iterable[ValueInfoProto], outputs: Iterable[ValueInfoProto]) -> GraphProto:
        """Close the innermost scope and return it as a graph."""
        scope = self._scopes.pop()
        return helper.make_graph(scope.nodes, name, list(inputs), list(outputs), list(scope.constants.values()))

    def branch(self, name: str, results: Mapping[str, torch.dtype]) -> GraphProto:
        """Close the innermost scope and return it as a branch of an ``If``, with the types of its results."""
        return self.close(name, [], [value_info(result, dtype) for result, dtype in results.items()])


def value_info(name: str, dtype: torch.dtype, shape: Shape | None = None) -> ValueInfoProto:
    """Return the description of an input or output; a dimension may have a name, and a shape may be unknown."""
    return helper.make_tensor_value_info(name, _TYPES[dtype], None if shape is None else list(shape))


def onnx_type(dtype: torch.dtype) -> int:
    """Return ONNX's number of a type."""
    return _TYPES[dtype]


def without_unused(graph: GraphProto) -> None:
    """Remove nodes and constants that no output of the file depends on, from a graph and from those inside it."""
    used = {output.name for output in graph.output}
    _remove_unused(graph, used)


def _remove_unused(graph: GraphProto, used: set[str]) -> None:
    used |= {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if used.isdisjoint(node.output):
            continue
        kept.append(node)
        for inner in _graphs_of(node):
            _remove_unused(inner, used)
        used.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _graphs_of(node: NodeProto) -> Iterator[GraphProto]:
    return (attribute.g for attribute in node.attribute if attribute.type == AttributeProto.GRAPH)
