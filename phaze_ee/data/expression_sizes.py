"""What an expression of a data configuration may make grow: whole numbers, and arrays whose size it says.

A Python integer may have any number of digits, and ``9**9**9`` would fill the memory. So may ``np.zeros(10**12)``.
"""

import ast
from collections.abc import Mapping, Sequence

MOST_PADDED = 4_096  # particles per jet, and numbers of an array that an expression makes
MOST_COMBINED = 3  # particles in one combination: 128 particles have 341,376 of three
LARGEST_INTEGER = 2**63 - 1
LONGEST_COLUMN = 2**31  # what len() may give

# The arguments that are sizes: position and keyword. First those that must be numbers, then those that may also be the
# length of a column or the number of particles.
_LENGTHS: Mapping[str, Mapping[int, str]] = {
    "ak.pad_none": {1: "target"},
    "np.linspace": {2: "num"},
    "_pad": {1: "maxlen"},
    "_repeat_pad": {1: "maxlen"},
    "_knn": {2: "k"},
    "_batch_knn": {2: "k", 3: "maxlen_s", 4: "maxlen_q"},
}
_SIZES: Mapping[str, Mapping[int, str]] = {
    "np.arange": {0: "start", 1: "stop", 2: "step"},
    "np.full": {0: "shape"},
    "np.ones": {0: "shape"},
    "np.repeat": {1: "repeats"},
    "np.zeros": {0: "shape"},
}
_ARRAYS, _KEEP_COUNTS = ("ak", "awkward", "np", "numpy"), ("asarray", "max", "to_numpy")
_COMBINES = frozenset({"ak.combinations", "ak.argcombinations"})
_PAIRS = frozenset({"ak.cartesian", "ak.argcartesian"})


class RefusedError(Exception):
    """What an expression uses that is not allowed, and what to write instead, as far as that is known."""

    def __init__(self, what: str, instead: str | None = None) -> None:
        super().__init__(what)
        self.instead = instead


def check_sizes(name: str, node: ast.Call) -> None:
    """Refuse a call that may make an array much larger than the columns.

    Args:
        name: of the function, as ``np.zeros``.
        node: the call.

    Raises:
        RefusedError: a size in it is not bounded.
    """
    for length in _given(node, _LENGTHS.get(name, {})):
        if not (_is_none(length) or _size(length) is not None):
            raise RefusedError(f"a length in {name} that is not a number", f"a whole number of at most {MOST_PADDED:,}")
    sizes = _given(node, _SIZES.get(name, {}))
    if not (_is_short_range(sizes) if name == "np.arange" else all(map(_is_shape, sizes))):
        raise RefusedError(
            f"a size in {name} that is not bounded", f"a whole number of at most {MOST_PADDED:,}, len(x) or ak.num(x)"
        )
    few = _given(node, {1: "n"})
    if name in _COMBINES and not (few and all(map(_is_few, few))):
        raise RefusedError(f"a size in {name} that is not bounded", f"a whole number of at most {MOST_COMBINED}")
    if name == "np.diff" and not all(map(_is_few, few)):  # with n = 0 it returns what it gets
        raise RefusedError("an n in np.diff that is not a number", f"a whole number from 1 to {MOST_COMBINED}")
    if name in _PAIRS and not (node.args and 0 < len(_elements(node.args[0])) <= MOST_COMBINED):
        raise RefusedError(f"other arguments of {name} than a list", f"a list of at most {MOST_COMBINED} columns")


def check_integers(tree: ast.expr) -> None:
    """Refuse Python integers that may become larger than 64 bits: 9**9**9 would fill the memory."""
    bounds: dict[ast.AST, int | None] = {}
    for node in reversed(list(ast.walk(tree))):  # children first
        bound = _bound(node, bounds)
        if bound is not None and bound > LARGEST_INTEGER:
            raise RefusedError("a whole number that may exceed 2^63", "a float, as 1e20")
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


def _given(node: ast.Call, places: Mapping[int, str]) -> list[ast.expr]:
    """Return the arguments of a call at some places."""
    given = [argument for position, argument in enumerate(node.args) if position in places]
    return given + [keyword.value for keyword in node.keywords if keyword.arg in places.values()]


def _is_few(node: ast.expr) -> bool:
    return 0 < (_size(node) or 0) <= MOST_COMBINED


def _elements(node: ast.expr) -> Sequence[ast.expr]:
    if isinstance(node, ast.Dict):
        return node.values
    return node.elts if isinstance(node, ast.List | ast.Tuple) else []


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _size(node: ast.expr) -> int | None:
    """Return the whole number that is written there, without its sign; None if it is none, or too large."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value <= MOST_PADDED else None


def _is_shape(node: ast.expr) -> bool:
    """Whether it is a size, or a shape with at most one size that is not a number."""
    parts = node.elts if isinstance(node, ast.Tuple | ast.List) else [node]
    product, columns = 1, 0
    for part in parts:
        size = _size(part)
        product *= 1 if size is None else size
        columns += size is None
    return product <= MOST_PADDED and columns <= 1 and all(_size(part) is not None or _is_count(part) for part in parts)


def _is_count(node: ast.expr) -> bool:
    """Whether it is the length of a column or a number of particles, which no expression can choose."""
    match node:
        case ast.Call(func=ast.Name(id="len")):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="ak" | "awkward"), attr="num")):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name), args=[inner, *_]) if (
            module in _ARRAYS and name in _KEEP_COUNTS
        ):
            return _is_count(inner)
    return False


def _is_short_range(parts: Sequence[ast.expr]) -> bool:
    """Whether the arguments of ``np.arange`` are whole numbers or counts, so that it steps by 1 at least."""
    steps_by_zero = len(parts) > 2 and _size(parts[2]) == 0
    return not steps_by_zero and all(_size(part) is not None or _is_count(part) for part in parts)
