"""The gate in front of weaver's evaluation: which expressions of a data configuration may be evaluated.

weaver evaluates the expressions of a data configuration as Python. A checkpoint carries such expressions too, and both
may come from somebody else. So each expression is parsed first, and only arithmetic, comparisons and indexing on
columns with the functions listed here pass. They cannot read files, import modules or call anything else, and the
Python integers in them stay below 2^63, so no short expression can make a number that fills the memory.
"""

import ast
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from phaze_ee.data.allowed_names import (
    ATTRIBUTES,
    CONSTANTS,
    FUNCTIONS,
    HELPERS,
    KEYWORDS,
    METHODS,
    MODULES,
    TYPES,
    instead_of,
)
from phaze_ee.errors import DataError

MOST_CHARACTERS = 20_000
MOST_PARTS = 5_000  # nodes of the syntax tree
DEEPEST = 300  # a sum of 300 labels is as deep
MOST_PADDED = 4_096  # particles per jet
LARGEST_INTEGER = 2**63 - 1
LONGEST_COLUMN = 2**31  # what len() may give

OPERATORS = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.LShift, ast.RShift),
    *(ast.BitAnd, ast.BitOr, ast.BitXor, ast.USub, ast.UAdd, ast.Invert, ast.Not, ast.And, ast.Or),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)
# the arguments that say how long a padded list becomes: position and keyword
_LENGTHS: Mapping[str, Mapping[int, str]] = {
    "ak.pad_none": {1: "target"},
    "_pad": {1: "maxlen"},
    "_repeat_pad": {1: "maxlen"},
    "_knn": {2: "k"},
    "_batch_knn": {2: "k", 3: "maxlen_s", 4: "maxlen_q"},
}
_CONVERTS = frozenset({"ak.values_astype", ".astype"})
_TAKES_NONE = frozenset({"np.clip", "_clip"})
_INDEXES = frozenset({"_batch_gather"})  # returns an element of a list as it is, which may be a Python integer
_Child = tuple[ast.AST, bool]  # a node, and whether lists and words may be there


class _RefusedError(Exception):
    """What an expression uses that is not allowed, and what to write instead, as far as that is known."""

    def __init__(self, what: str, instead: str | None = None) -> None:
        super().__init__(what)
        self.instead = instead


def check_expression(text: str, where: str) -> None:
    """Refuse an expression that weaver must not evaluate. Nothing is evaluated here.

    Args:
        text: the expression.
        where: the file and the variable, for errors: "data.yaml: the expression of 'part_pt'".

    Raises:
        DataError: it is not Python, is too large, or uses something that is not listed.
    """
    tree = parse_expression(text, where)
    try:
        _check_tree(tree)
    except _RefusedError as refused:
        remedy = (
            f"write {refused.instead}"
            if refused.instead
            else "docs/SECURITY.md lists what is, and how to allow more in a data config of your own"
        )
        raise DataError(f"{where} uses {refused}, which is not allowed; {remedy}: {_short(text)}") from None


def parse_expression(text: str, where: str) -> ast.expr:
    """Return the syntax tree of an expression.

    Raises:
        DataError: it is not Python, or too long or nested too deeply to be parsed.
    """
    if len(text) > MOST_CHARACTERS:
        raise DataError(f"{where} has {len(text):,} characters; split it, at most {MOST_CHARACTERS:,} are allowed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SyntaxWarning)  # such as 1[0]: Python compiles it, but it is a mistake
            ast.parse(text)  # as weaver does to find the names: it stumbles over spaces in front
            compile(text, where, "eval")
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError) as error:
        reason = getattr(error, "msg", str(error))
        raise DataError(f"{where} is not Python: {reason}: {_short(text)}") from error
    except (MemoryError, RecursionError) as error:  # what Python's parser raises on deep nesting
        raise DataError(f"{where} is nested too deeply; split it: {_short(text)}") from error


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= 120 else f"{flat[:120]}…")


def _check_tree(tree: ast.expr) -> None:
    todo: list[tuple[ast.AST, bool, int]] = [(tree, False, 1)]
    parts = 0
    while todo:
        node, in_call, depth = todo.pop()
        parts += 1
        if parts > MOST_PARTS or depth > DEEPEST:
            raise _RefusedError(f"more than {MOST_PARTS:,} parts or {DEEPEST} levels", "several new_variables")
        check = _CHECKS.get(type(node))
        if check is None:
            raise _RefusedError(_NAMES_OF_SYNTAX.get(type(node), f"Python's {type(node).__name__}"))
        todo += [(child, may_be_list, depth + 1) for child, may_be_list in check(node, in_call)]
    _check_integers(tree)


def _check_constant(node: ast.Constant, in_call: bool) -> Iterator[_Child]:
    if isinstance(node.value, str):
        raise _RefusedError(f"the text {node.value[:40]!r}")
    if not isinstance(node.value, int | float):  # None among numbers would make an array of objects
        raise _RefusedError(f"the value {node.value!r}")
    yield from ()


def _check_name(node: ast.Name, in_call: bool) -> Iterator[_Child]:
    if node.id.startswith("_") or node.id in MODULES or node.id in HELPERS:
        raise _RefusedError(f"the name {node.id}")
    yield from ()  # the name of a column


def _check_attribute(node: ast.Attribute, in_call: bool) -> Iterator[_Child]:
    if isinstance(node.value, ast.Name) and node.value.id in MODULES:
        if node.attr not in CONSTANTS[MODULES[node.value.id]]:
            raise _RefusedError(_dotted(node), instead_of(_dotted(node)))
        return
    if node.attr not in ATTRIBUTES:
        raise _RefusedError(_dotted(node), instead_of(_dotted(node)))
    yield node.value, False


def _check_call(node: ast.Call, in_call: bool) -> Iterator[_Child]:
    name = _function_name(node)
    if isinstance(node.func, ast.Attribute) and name.startswith("."):
        yield node.func.value, False
    _check_lengths(name, node)
    for argument in node.args:
        is_bound = name in _TAKES_NONE and _is_none(argument)
        if not (is_bound or (name in _CONVERTS and _is_type(argument))):
            yield argument, name not in _INDEXES
    for keyword in node.keywords:
        if keyword.arg not in KEYWORDS:
            raise _RefusedError(f"the keyword {keyword.arg or '**'} in {name}")
        if keyword.arg == "dtype" and not _is_type(keyword.value):
            raise _RefusedError(f"a dtype in {name} that is not a type of numbers", "np.float32 or 'float32'")
        if not (keyword.arg == "dtype" or _is_side(keyword) or _is_none(keyword.value)):
            yield keyword.value, True


def _function_name(node: ast.Call) -> str:
    """Return the function that is called, as ``np.log``, ``_pad``, or ``.sum`` for a method."""
    called = node.func
    if isinstance(called, ast.Name):
        if called.id not in HELPERS:
            raise _RefusedError(f"the function {called.id}", instead_of(called.id))
        return called.id
    if not isinstance(called, ast.Attribute):
        raise _RefusedError("a call of something that is not a function")
    if isinstance(called.value, ast.Name) and called.value.id in MODULES:
        module = MODULES[called.value.id]
        if called.attr not in FUNCTIONS[module]:
            raise _RefusedError(_dotted(called), instead_of(_dotted(called)))
        return f"{module}.{called.attr}"
    if called.attr not in METHODS:
        raise _RefusedError(_dotted(called), instead_of(_dotted(called)))
    return f".{called.attr}"


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_side(keyword: ast.keyword) -> bool:
    """Whether it is ``side="left"`` or ``side="right"``, as ``np.searchsorted`` takes it."""
    return (
        keyword.arg == "side" and isinstance(keyword.value, ast.Constant) and keyword.value.value in ("left", "right")
    )


def _is_type(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=str(name)):
            return name in TYPES
        case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=name):
            return name in TYPES
    return False


def _is_new_axis(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=None) | ast.Attribute(value=ast.Name(id="np" | "numpy"), attr="newaxis"):
            return True
    return False


def _dotted(node: ast.Attribute) -> str:
    """Return names joined by dots as they are written: ``np.random.rand``, or ``.layout`` of an expression."""
    parts: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute):
        parts.append(inner.attr)
        inner = inner.value
    parts.append(inner.id if isinstance(inner, ast.Name) else "")
    return ".".join(reversed(parts))


def _check_lengths(name: str, node: ast.Call) -> None:
    lengths = _LENGTHS.get(name, {})
    given = [argument for position, argument in enumerate(node.args) if position in lengths]
    given += [keyword.value for keyword in node.keywords if keyword.arg in lengths.values()]
    for length in given:
        value = length.value if isinstance(length, ast.Constant) else None
        if not isinstance(value, int | None) or (value is None and not _is_none(length)) or (value or 0) > MOST_PADDED:
            raise _RefusedError(
                f"a length in {name} that is not a number", f"a whole number of at most {MOST_PADDED:,}"
            )


def _check_subscript(node: ast.Subscript, in_call: bool) -> Iterator[_Child]:
    yield node.value, False
    for index in node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]:
        value = index.value if isinstance(index, ast.Constant) else None
        is_field = isinstance(value, str) and value.isidentifier()
        if not (is_field or value is ... or _is_new_axis(index)):
            yield index, True


def _check_slice(node: ast.Slice, in_call: bool) -> Iterator[_Child]:
    for part in (node.lower, node.upper, node.step):
        if part is not None and not _is_none(part):
            yield part, False


def _check_list(node: ast.List | ast.Tuple, in_call: bool) -> Iterator[_Child]:
    if not in_call:  # [0] * 10**9
        raise _RefusedError("a list that is not an argument of a function")
    yield from ((element, True) for element in node.elts)


def _check_operation(node: ast.AST, in_call: bool) -> Iterator[_Child]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child, False
        elif not isinstance(child, OPERATORS):
            instead = "np.isin" if isinstance(child, ast.In | ast.NotIn) else None
            raise _RefusedError(f"the operator {type(child).__name__}", instead)


def _check_integers(tree: ast.expr) -> None:
    """Refuse Python integers that may become larger than 64 bits: 9**9**9 would fill the memory."""
    bounds: dict[ast.AST, int | None] = {}
    for node in reversed(list(ast.walk(tree))):  # children first
        bound = _bound(node, bounds)
        if bound is not None and bound > LARGEST_INTEGER:
            raise _RefusedError("a whole number that may exceed 2^63", "a float, as 1e20")
        bounds[node] = bound


def _bound(node: ast.AST, bounds: Mapping[ast.AST, int | None]) -> int | None:
    """Return what a Python integer is at most, without its sign; None where the value is an array or a float."""
    match node:
        case ast.Constant(value=int(value)):
            return abs(value)
        case ast.Call(func=ast.Name(id="len")):
            return LONGEST_COLUMN
        case ast.Compare() | ast.UnaryOp(op=ast.Not()) | ast.Call(func=ast.Attribute(value=ast.Name(id="math"))):
            return 1  # false or true; all other functions of math give floats
        case ast.UnaryOp(operand=operand):
            bound = bounds[operand]
            return None if bound is None else bound + 1
        case ast.BoolOp(values=values):
            return max((bound for value in values if (bound := bounds[value]) is not None), default=None)
        case ast.IfExp(body=one, orelse=other):
            return max((bound for value in (one, other) if (bound := bounds[value]) is not None), default=None)
        case ast.BinOp(left=left, op=operator, right=right):
            first, second = bounds[left], bounds[right]
            return None if first is None or second is None else _bound_of_operation(operator, first, second)
    return None


def _bound_of_operation(operator: ast.operator, one: int, other: int) -> int | None:
    match operator:
        case ast.Div():
            return None
        case ast.Mult():
            return one * other
        case ast.LShift():
            return one << min(other, 64)
        case ast.Pow():
            power: int = one ** min(other, 64)
            return power
    return one + other + 1


_CHECKS: Mapping[type[ast.AST], Callable[[Any, bool], Iterator[_Child]]] = {
    ast.Constant: _check_constant,
    ast.Name: _check_name,
    ast.Attribute: _check_attribute,
    ast.Call: _check_call,
    ast.Subscript: _check_subscript,
    ast.Slice: _check_slice,
    ast.List: _check_list,
    ast.Tuple: _check_list,
    ast.BinOp: _check_operation,
    ast.UnaryOp: _check_operation,
    ast.BoolOp: _check_operation,
    ast.Compare: _check_operation,
    ast.IfExp: _check_operation,
}
_NAMES_OF_SYNTAX: Mapping[type[ast.AST], str] = {
    ast.Lambda: "a lambda",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.JoinedStr: "an f-string",
    ast.NamedExpr: "an assignment",
    ast.Starred: "an argument with *",
    ast.Dict: "a dictionary",
    ast.Set: "a set",
}
