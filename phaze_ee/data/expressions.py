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
from phaze_ee.data.expression_sizes import RefusedError, check_integers, check_sizes
from phaze_ee.errors import DataError

MOST_CHARACTERS = 20_000
MOST_PARTS = 5_000  # nodes of the syntax tree
DEEPEST = 300  # a sum of 300 labels is as deep

OPERATORS = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.LShift, ast.RShift),
    *(ast.BitAnd, ast.BitOr, ast.BitXor, ast.USub, ast.UAdd, ast.Invert, ast.Not, ast.And, ast.Or),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)
_CONVERTS = frozenset({"ak.values_astype", ".astype"})
_TAKES_FIELDS = frozenset({"ak.zip", "ak.cartesian", "ak.argcartesian"})
_TAKES_NONE = frozenset({"np.clip", "_clip"})
_INDEXES = frozenset({"_batch_gather"})  # returns an element of a list as it is, which may be a Python integer
_Child = tuple[ast.AST, bool]  # a node, and whether lists and words may be there


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
    except RefusedError as refused:
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
            raise RefusedError(f"more than {MOST_PARTS:,} parts or {DEEPEST} levels", "several new_variables")
        check = _CHECKS.get(type(node))
        if check is None:
            raise RefusedError(_NAMES_OF_SYNTAX.get(type(node), f"Python's {type(node).__name__}"))
        todo += [(child, may_be_list, depth + 1) for child, may_be_list in check(node, in_call)]
    check_integers(tree)


def _check_constant(node: ast.Constant, in_call: bool) -> Iterator[_Child]:
    if isinstance(node.value, str):
        raise RefusedError(f"the text {node.value[:40]!r}")
    if not isinstance(node.value, int | float):  # None among numbers would make an array of objects
        raise RefusedError(f"the value {node.value!r}")
    yield from ()


def _check_name(node: ast.Name, in_call: bool) -> Iterator[_Child]:
    if node.id.startswith("_") or node.id in MODULES or node.id in HELPERS:
        raise RefusedError(f"the name {node.id}")
    yield from ()  # the name of a column


def _check_attribute(node: ast.Attribute, in_call: bool) -> Iterator[_Child]:
    if isinstance(node.value, ast.Name) and node.value.id in MODULES:
        if node.attr not in CONSTANTS[MODULES[node.value.id]]:
            raise _refused_attribute(node)
        return
    if node.attr not in ATTRIBUTES:
        raise _refused_attribute(node)
    yield node.value, False


def _check_call(node: ast.Call, in_call: bool) -> Iterator[_Child]:
    name = _function_name(node)
    if isinstance(node.func, ast.Attribute) and name.startswith("."):
        yield node.func.value, False
    check_sizes(name, node)
    for argument in node.args:
        is_bound = name in _TAKES_NONE and _is_none(argument)
        if name in _TAKES_FIELDS and isinstance(argument, ast.Dict):
            yield from _check_fields(argument)
        elif not (is_bound or (name in _CONVERTS and _is_type(argument))):
            yield argument, name not in _INDEXES
    for keyword in node.keywords:
        if keyword.arg not in KEYWORDS:
            raise RefusedError(f"the keyword {keyword.arg or '**'} in {name}")
        if keyword.arg == "dtype" and not _is_type(keyword.value):
            raise RefusedError(f"a dtype in {name} that is not a type of numbers", "np.float32 or 'float32'")
        if not (keyword.arg == "dtype" or _is_side(keyword) or _is_none(keyword.value) or _is_names(keyword)):
            yield keyword.value, True


def _function_name(node: ast.Call) -> str:
    """Return the function that is called, as ``np.log``, ``_pad``, or ``.sum`` for a method."""
    called = node.func
    if isinstance(called, ast.Name):
        if called.id not in HELPERS:
            raise RefusedError(f"the function {called.id}", instead_of(called.id))
        return called.id
    if not isinstance(called, ast.Attribute):
        raise RefusedError("a call of something that is not a function")
    if isinstance(called.value, ast.Name) and called.value.id in MODULES:
        module = MODULES[called.value.id]
        if called.attr not in FUNCTIONS[module]:
            raise _refused_attribute(called)
        return f"{module}.{called.attr}"
    if called.attr not in METHODS:
        raise _refused_attribute(called)
    return f".{called.attr}"


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_side(keyword: ast.keyword) -> bool:
    """Whether it is ``side="left"`` or ``side="right"``, as ``np.searchsorted`` takes it."""
    return (
        keyword.arg == "side" and isinstance(keyword.value, ast.Constant) and keyword.value.value in ("left", "right")
    )


def _is_names(keyword: ast.keyword) -> bool:
    """Whether it is ``fields=["a", "b"]``, as ``ak.combinations`` takes it."""
    return (
        keyword.arg == "fields"
        and isinstance(keyword.value, ast.List | ast.Tuple)
        and all(_is_field(element) for element in keyword.value.elts)
    )


def _is_field(node: ast.AST | None) -> bool:
    """Whether it is the name of a field, or the number of one, as text: ``"a"`` or ``"0"``."""
    value = node.value if isinstance(node, ast.Constant) else None
    return isinstance(value, str) and (value.isidentifier() or value.isdecimal()) and not value.startswith("_")


def _check_fields(node: ast.Dict) -> Iterator[_Child]:
    for key, value in zip(node.keys, node.values, strict=True):
        if not _is_field(key):
            raise RefusedError("a dictionary with other keys than names as 'pt'")
        yield value, True


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


def _dotted(node: ast.Attribute, *, through_calls: bool = False) -> str:
    """Return names joined by dots as they are written: ``np.random.rand``, or ``.layout`` of an expression.

    ``through_calls`` leaves out arguments and indices: ``px[0].pad(3).regular`` gives ``px.pad.regular``.
    """
    passed = (ast.Attribute, ast.Call, ast.Subscript) if through_calls else ast.Attribute
    parts: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, passed):
        if isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
        inner = inner.func if isinstance(inner, ast.Call) else inner.value
    parts.append(inner.id if isinstance(inner, ast.Name) else "")
    return ".".join(reversed(parts))


def _refused_attribute(node: ast.Attribute) -> RefusedError:
    return RefusedError(_dotted(node), instead_of(_dotted(node, through_calls=True)))


def _check_subscript(node: ast.Subscript, in_call: bool) -> Iterator[_Child]:
    yield node.value, False
    for index in node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]:
        value = index.value if isinstance(index, ast.Constant) else None
        if not (_is_field(index) or value is ... or _is_new_axis(index)):
            yield index, True


def _check_slice(node: ast.Slice, in_call: bool) -> Iterator[_Child]:
    for part in (node.lower, node.upper, node.step):
        if part is not None and not _is_none(part):
            yield part, False


def _check_list(node: ast.List | ast.Tuple, in_call: bool) -> Iterator[_Child]:
    if not in_call:  # [0] * 10**9
        raise RefusedError("a list that is not an argument of a function")
    yield from ((element, True) for element in node.elts)


def _check_operation(node: ast.AST, in_call: bool) -> Iterator[_Child]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child, False
        elif not isinstance(child, OPERATORS):
            instead = "np.isin" if isinstance(child, ast.In | ast.NotIn) else None
            raise RefusedError(f"the operator {type(child).__name__}", instead)


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
