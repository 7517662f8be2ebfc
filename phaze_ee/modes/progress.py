"""What a mode shows while it goes through jets."""

from collections.abc import Iterable, Iterator

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from phaze_ee.modes.console import console
from phaze_ee.types import JetBatch


def counted(batches: Iterable[JetBatch]) -> Iterator[JetBatch]:
    """Pass batches on, and show the number of jets while the console is a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} jets"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        for batch in batches:
            yield batch
            progress.advance(task, len(batch))
