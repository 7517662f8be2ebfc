"""Damages bytes, and changes values somewhere in nested lists and mappings."""

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Place = tuple[Any, ...]
Damage = Callable[[random.Random, bytes, bytes], bytes]

EXTREME_INTEGERS = (0, 1, -1, 127, 255, 2**15, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64, 10**30)
EXTREME_FLOATS = (0.0, -0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"))
ODD_TEXTS = (
    "",
    " ",
    "x",
    "../x",
    "None",
    "1",
    "\n",
    "\x00",
    "é\u2028",
    "\u202e",
    "A" * 3000,
    "%s{0}",
    "~",
    "/dev/null",
)
_SHORT, _LONG = 3, 64  # bytes


def values() -> list[Any]:
    """Return values of all types, from usual to extreme."""
    nested: list[Any] = []
    for _ in range(200):
        nested = [nested]
    scalars = [None, True, False, 2, 5, 0.5, -2.5, *EXTREME_INTEGERS, *EXTREME_FLOATS, *ODD_TEXTS]
    return [*scalars, [], {}, [1], ["x"], [None], {"a": 1}, {"": None}, [[1, 2], [3]], list(range(500)), nested]


def damaged(draw: random.Random, content: bytes, other: bytes = b"") -> bytes:
    """Return damaged content: bits, ranges or numbers in it are changed, or parts are lost, repeated or exchanged."""
    change: Damage = draw.choice(_DAMAGES)
    found = change(draw, content, other)
    return content[:-1] if found == content else found


def _place(draw: random.Random, content: bytes, length: int = 1) -> int:
    """Return where to change something: anywhere, or near the ends, where the formats keep their tables."""
    last = max(len(content) - length, 0)
    return draw.choice([draw.randint(0, last), draw.randint(0, min(last, 300)), draw.randint(max(last - 300, 0), last)])


def _bits(draw: random.Random, content: bytes, other: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 10))):
        changed[_place(draw, content)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _range(draw: random.Random, content: bytes, other: bytes) -> bytes:
    length = draw.randint(1, _LONG)
    start = _place(draw, content, length)
    new = draw.choice([bytes(length), b"\xff" * length, draw.randbytes(length)])
    return content[:start] + new + content[start + length :]


def _number(draw: random.Random, content: bytes, other: bytes) -> bytes:
    size = draw.choice((1, 2, 4, 8))
    start = _place(draw, content, size)
    number = draw.choice(EXTREME_INTEGERS) % (1 << 8 * size)
    return content[:start] + number.to_bytes(size, draw.choice(["big", "little"])) + content[start + size :]


def _lost(draw: random.Random, content: bytes, other: bytes) -> bytes:
    start = _place(draw, content)
    return content[:start] + content[start + draw.randint(1, _LONG) :]


def _repeated(draw: random.Random, content: bytes, other: bytes) -> bytes:
    start = _place(draw, content)
    part = content[start : start + draw.randint(1, _LONG)]
    return content[:start] + part * draw.choice((2, 3)) + content[start + len(part) :]


def _exchanged(draw: random.Random, content: bytes, other: bytes) -> bytes:
    one, two = sorted((_place(draw, content), _place(draw, content)))
    length = min(draw.randint(_SHORT, 10 * _LONG), two - one)
    first, second = content[one : one + length], content[two : two + length]
    return content[:one] + second + content[one + length : two] + first + content[two + length :]


def _spliced(draw: random.Random, content: bytes, other: bytes) -> bytes:
    place = _place(draw, content)
    return content[:place] + (other or content)[place:]


def _cut(draw: random.Random, content: bytes, other: bytes) -> bytes:
    return content[: _place(draw, content)]


def _extended(draw: random.Random, content: bytes, other: bytes) -> bytes:
    return content + draw.choice([draw.randbytes(_LONG), bytes(_LONG), content, b"\n"])


_DAMAGES: Sequence[Damage] = (
    _bits, _bits, _bits, _range, _number, _number, _lost, _repeated, _exchanged, _spliced, _cut, _extended,
)  # fmt: skip


def places(value: Any, before: Place = ()) -> Iterator[Place]:
    """Yield where the parts of nested lists and mappings are."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*before, key)
        yield from places(inner, (*before, key))


def part_of(value: Any, place: Place) -> Any:
    """Return the part at a place of :func:`places`."""
    for key in place:
        value = value[key]
    return value


def mutated(draw: random.Random, content: Any, new: Sequence[Any] | None = None) -> Any:
    """Return nested lists and mappings with up to three changes: other values, lost, repeated or renamed parts."""
    changed = copy.deepcopy(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        known = list(places(changed))
        if known:
            _change(draw, changed, draw.choice(known), values() if new is None else new)
    return changed


def _change(draw: random.Random, content: Any, place: Place, new: Sequence[Any]) -> None:
    parent, key = part_of(content, place[:-1]), place[-1]
    kind = draw.choice(("value", "value", "value", "similar", "similar", "similar", "lost", "moved", "wrapped"))
    if kind == "value":
        parent[key] = draw.choice(new)
    elif kind == "similar":
        parent[key] = _similar(draw, parent[key], new)
    elif kind == "lost":
        del parent[key]
    elif kind == "wrapped":
        parent[key] = draw.choice([[parent[key]], {"a": parent[key]}, [parent[key], parent[key]]])
    elif isinstance(parent, dict):
        name = draw.choice([str(key) + "x", "", 1, None, str(key).upper(), "A" * 500])
        parent[name] = parent.pop(key)
    else:
        parent.insert(draw.randint(0, len(parent)), copy.deepcopy(parent[key]))


def _similar(draw: random.Random, value: Any, new: Sequence[Any]) -> Any:
    """Return another value of the same type, or the same in another type."""
    if isinstance(value, bool) or value is None:
        return draw.choice([not value, int(bool(value)), str(value)])
    if isinstance(value, int):
        return draw.choice([-value, value + 1, value * 10**6, float(value), str(value), *EXTREME_INTEGERS])
    if isinstance(value, float):
        return draw.choice([-value, value * 1e6, str(value), int(value) if abs(value) < 1e300 else 0, *EXTREME_FLOATS])
    if isinstance(value, str):
        place = draw.randint(0, len(value))
        return draw.choice(
            [value[:place], value + value, value[:place] + draw.choice("()[]*'\"é\x01 ") + value[place:]]
        )
    if isinstance(value, list):
        return draw.choice([value[1:], value[::-1], value * 2, tuple(value), []])
    if isinstance(value, dict):
        return draw.choice([{}, list(value), dict(list(value.items())[1:])])
    return draw.choice(new)
