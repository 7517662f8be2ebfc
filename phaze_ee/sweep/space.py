"""The options that a sweep varies: ``--set name=a,b,c`` (choices) and ``--set name=low:high[:log|:int]`` (a range)."""

import ast
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phaze_ee.config.load import nearest_option
from phaze_ee.config.options import Options
from phaze_ee.errors import UsageError

_WORD = re.compile(r"[^\s\[\](){}'\",=]+")
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_RANGE_WORDS = ("log", "int")


@dataclass(frozen=True)
class Choices:
    """Choices as they were written, because the storage cannot hold every value; ``text`` has all of them."""

    text: str
    texts: tuple[str, ...]

    def value(self, text: str) -> Any:
        """Return the value of a text."""
        return _literal(text)

    @property
    def samples(self) -> tuple[str, ...]:
        return self.texts


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, inclusive; ``log``: drawn uniformly in the logarithm; ``text``: as written."""

    text: str
    low: float
    high: float
    log: bool
    integer: bool

    def value(self, number: float) -> float:
        """Return a number of the range with the type of the option."""
        return number

    @property
    def samples(self) -> tuple[float, ...]:
        """Numbers to test the option with: both ends and, for real numbers, one between them."""
        return (self.low, self.high) if self.integer else (self.low, (self.low + self.high) / 2, self.high)


Dimension = Choices | Range
Space = Mapping[str, Dimension]


def parse_space(settings: Sequence[str]) -> dict[str, Dimension]:
    """Return the values of all ``--set``, by the names of the options.

    Raises:
        UsageError: there are none; or one is malformed, has no values, or names an unknown option or one twice.
    """
    if not settings:
        raise UsageError("mode 'sweep' needs at least one --set NAME=VALUES, for example --set lr=1e-3:1e-2:log")
    space: dict[str, Dimension] = {}
    for setting in settings:
        name, equals, values = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting!r} has no '='; write --set NAME=a,b,c or --set NAME=low:high")
        if name not in Options.model_fields:
            raise UsageError(f"--set {setting}: unknown option {name!r}{nearest_option(name)}")
        if name in space:
            raise UsageError(f"--set {setting}: {name} is set twice; give all its values in one --set")
        try:
            space[name] = _range(values) or _choices(values)
        except ValueError as error:
            raise UsageError(f"--set {setting}: {error}") from error
    return space


def is_grid(space: Space) -> bool:
    """Return whether all options have choices, so that every combination can be tried."""
    return all(isinstance(dimension, Choices) for dimension in space.values())


def combinations(space: Space) -> Iterator[dict[str, Any]]:
    """Yield every combination of the values of the dimensions; ranges give a few sample values each."""
    for values in itertools.product(*(dimension.samples for dimension in space.values())):
        yield dict(zip(space, values, strict=True))


def check_space(space: Space, check: Callable[[Mapping[str, Any]], object]) -> None:
    """Check values of the space: all combinations of a grid, else each value with the first values of the others.

    Args:
        space: the varied options.
        check: raises UsageError if a configuration with these options is wrong.

    Raises:
        UsageError: with the first wrong values.
    """
    first = {name: dimension.samples[0] for name, dimension in space.items()}
    alone = ({**first, name: sample} for name, dimension in space.items() for sample in dimension.samples)
    for drawn in combinations(space) if is_grid(space) else alone:
        try:
            check(values_of(space, drawn))
        except UsageError as error:
            raise UsageError(f"--set {', '.join(f'{name}={drawn[name]}' for name in drawn)}: {error}") from error


def values_of(space: Space, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Return the drawn texts and numbers as values of the options."""
    return {name: dimension.value(drawn[name]) for name, dimension in space.items()}


def _range(text: str) -> Range | None:
    """Return the range that a text describes; None for choices."""
    parts = text.split(":")
    if len(parts) == 1 or _number(parts[0]) is None:
        return None
    low, high, words = _number(parts[0]), _number(parts[1]), parts[2:]
    if low is None or high is None:
        raise ValueError(f"{parts[1]!r} is not a number; write low:high, low:high:log or low:high:int")
    for word in words:
        if word not in _RANGE_WORDS:
            raise ValueError(f"{word!r} is not one of {', '.join(_RANGE_WORDS)}; write low:high, low:high:log …")
    if low >= high:
        raise ValueError(f"the range is empty, {parts[0]} is not below {parts[1]}; write low:high")
    if "log" in words and low <= 0:
        raise ValueError(f"{parts[0]} has no logarithm; start a range with :log above 0")
    if "int" in words and not (isinstance(low, int) and isinstance(high, int)):
        raise ValueError("a range with :int needs whole numbers at both ends")
    return Range(text, low, high, "log" in words, "int" in words)


def _number(text: str) -> float | None:
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if abs(number) < float("inf") else None
    return None


def _choices(text: str) -> Choices:
    texts = tuple(part.strip() for part in _split(text))
    values = [_literal(part) for part in texts]
    for index, value in enumerate(values):
        if value in values[:index] and type(value) is type(values[values.index(value)]):
            raise ValueError(f"{texts[index]} is given twice; give each value once")
    return Choices(text, texts)


def _split(text: str) -> Iterator[str]:
    """Split at commas outside of brackets and quotes."""
    depth, quote, start = 0, "", 0
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "," and depth == 0:
            yield text[start:position]
            start = position + 1
        depth += 0 if quote else _BRACKETS.get(character, 0)
    yield text[start:]


def _literal(text: str) -> Any:
    """Return the Python value of a text; a word is its own value."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        if _WORD.fullmatch(text):
            return text
        if not text:
            raise ValueError("a value is missing; give values with commas between") from error
        raise ValueError(f"{text!r} is neither a Python value nor a word; put words with symbols in quotes") from error
