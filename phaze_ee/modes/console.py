"""The console of the modes, and what they print on it."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from phaze_ee.machine import rank
from phaze_ee.tables.style import WIDTH

if TYPE_CHECKING:
    from phaze_ee.types import JetBatch

# Of the processes that torchrun starts, only the first prints. Numbers and paths are not coloured: colour is for what a
# table emphasises. Brackets and colons are text: a label may be px[pt > 5].
console = Console(highlight=False, markup=False, emoji=False, quiet=rank() != 0)


class JetRate(ProgressColumn):
    """Jets per second in a progress bar, as soon as some are done."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} jets/s")


# A command in a text, which can be copied only if it is not broken. Within, another character stands for the spaces.
_COMMAND = re.compile(r"phaze_ee -m \S+(?: -p \S+ \S+| -o \S+| --[\w-]+(?: [A-Z\d]+\b)?)*")
_JOINED = "\x1f"
_said: set[str] = set()  # what explains results; it is printed once


def begin() -> None:
    """Begin a command: nothing has been printed."""
    _said.clear()


def short(path: Path) -> str:
    """Return a path below the current folder as a relative one, which a line has room for; others are absolute."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path)


def say(text: str, style: str | None = None) -> None:
    """Print text as it is: the terminal wraps long lines."""
    console.print(text, style=style, soft_wrap=True)


def say_new(text: str) -> None:
    """Print a text in lines of at most 80 columns, once in a command: modes of a chain do not repeat it."""
    if text not in _said:
        _said.add(text)
        say_in_columns(text)


def say_written(path: Path, more: str = "") -> None:
    """Print where a result is."""
    say(f"Written: {short(path)}{more}")


def show(table: Table) -> None:
    """Print a table, at most 80 columns wide also if the output is a file or a wide window.

    Lines below it that were printed below an earlier table of the command are left out.
    """
    lines = [] if table.caption is None else str(table.caption).split("\n")
    table.caption = "\n".join(line for line in lines if line not in _said) or None
    _said.update(lines)
    console.print(table, width=min(console.width, WIDTH))


def say_in_columns(text: str) -> None:
    """Print a text in lines of at most 80 columns, without spaces at their ends; paths and commands stay whole."""
    width = min(console.width, WIDTH)
    for line in _COMMAND.sub(lambda found: found[0].replace(" ", _JOINED), text).split("\n"):
        pieces = textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
        say("\n".join(pieces).replace(_JOINED, " "))


def show_notes(notes: Iterable[str]) -> None:
    """Print notes on a result, one after the other."""
    for note in notes:
        say_in_columns(f"Note: {note}")


def show_details(tables: Iterable[Table], *, wanted: bool) -> None:
    """Print tables that ``--details`` asks for."""
    for table in tables if wanted else ():
        console.print()
        show(table)


def say_where(paths: Sequence[Path], *, details: bool) -> None:
    """Print where the results are, the folder if there are several, and how to see more of them."""
    say_written(paths[0] if len(paths) == 1 else paths[0].parent)
    if not details:
        say_new("--details shows all tables.")


def counted(batches: "Iterable[JetBatch]") -> "Iterator[JetBatch]":
    """Yield the batches, and show the number of jets if the console is a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} jets"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        for batch in batches:
            yield batch
            progress.advance(task, len(batch))
