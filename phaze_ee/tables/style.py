"""The style of all tables, their width, and how numbers with errors are written."""

from collections.abc import Sequence
from math import floor, log10
from typing import TypeVar

from rich import box
from rich.table import Table

WIDTH = 80
MOST_ROWS = 12
UNKNOWN = "-"
_PLAIN_POWERS = range(-4, 7)  # of ten, of numbers that are written without one
OWN_PARTICLES = "MACs: mean of these jets, each with its own number of particles"


RowT = TypeVar("RowT")


def empty_table(title: str, columns: list[str], first: str = "exit") -> Table:
    """Return a table without rows: the column ``first`` is left-aligned, the others are right-aligned."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        min_width=min(WIDTH, len(title)),  # a title wider than the columns would wrap
    )
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", overflow="fold")
    return table


def add_caption(table: Table, text: str) -> None:
    """Write a line below a table, after earlier ones; the table becomes wide enough for it."""
    table.caption = text if table.caption is None else f"{table.caption}\n{text}"
    table.min_width = max(table.min_width or 0, min(WIDTH, len(text)))


def with_error(value: float, error: float) -> str:
    """Return ``value ± error``, both rounded to the second significant digit of the error.

    Large and small numbers have a power of ten, as in ``(2.04 ± 0.35)e31``.
    """
    if error == 0:
        return f"{value:.4g}"
    power = floor(log10(max(error, abs(value))))
    if power not in _PLAIN_POWERS:
        return f"({with_error(value / 10.0**power, error / 10.0**power)})e{power}"
    decimals = max(0, 1 - floor(log10(error)))
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def in_percent(share: float, error: float) -> str:
    """Return a share and its error in percent."""
    return f"{with_error(100 * share, 100 * error)} %"


def number(value: float | None, form: str) -> str:
    """Return a formatted number, or a dash for None."""
    return UNKNOWN if value is None else format(value, form)


def millions(macs: float | None) -> str:
    """Return MACs in millions with three decimals, which small networks need too; a dash for None."""
    return number(None if macs is None else macs / 1e6, ".3f")


def few(rows: Sequence[RowT], most: int = MOST_ROWS) -> list[RowT | None]:
    """Return at most this many rows: if there are more, the first and the last, and None in place of the others."""
    if len(rows) <= most:
        return list(rows)
    first = (most - 1) // 2
    return [*rows[:first], None, *rows[first + 1 - most :]]
