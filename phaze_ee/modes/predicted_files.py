"""What both forms of mode predict, of a project and of a bundle, do with many files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from phaze_ee.data.row_spans import row_count
from phaze_ee.errors import DataError, PhazeError
from phaze_ee.modes.console import JetRate, console, say_in_columns, short
from phaze_ee.names import quantity
from phaze_ee.prediction.outputs import FileJob
from phaze_ee.prediction.writers import Manifest

_MOST_SHOWN = 5

Predicted = Manifest | DataError  # a file that cannot be used does not stop the others


@contextmanager
def progress_of(jobs: Sequence[FileJob], tree: str | None) -> Iterator[Callable[[int], None]]:
    """Show how many jets of the files are done, if the console is a terminal; yield what counts them."""
    columns = (TextColumn("{task.completed:,} jets"), BarColumn(), JetRate(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=sum(_rows(job, tree) for job in jobs))
        yield lambda rows: progress.advance(bar, rows)


def _rows(job: FileJob, tree: str | None) -> int:
    try:
        return row_count(job.source, tree)
    except DataError:  # told when its turn comes
        return 0


def predicted_one_by_one(
    jobs: Sequence[FileJob], tree: str | None, predict: Callable[[FileJob, Callable[[int], None]], Manifest]
) -> Iterator[Predicted]:
    """Predict files in this process, show the progress, and yield what became of each."""
    with progress_of(jobs, tree) as advance:
        for job in jobs:
            try:
                found: Predicted = predict(job, advance)
            except DataError as error:
                found = error
            yield found


def collected(predicted: Iterable[Predicted], files: int, folder: Path) -> tuple[list[Manifest], list[DataError]]:
    """Return what was made of files, and why the others cannot be used.

    If another error ends it, which may concern all files, print before it how many are written.
    """
    made: list[Manifest] = []
    bad: list[DataError] = []
    try:
        for found in predicted:
            if isinstance(found, DataError):
                bad.append(found)
            else:
                made.append(found)
    except PhazeError:
        if made:
            done = f"{len(made):,} of {quantity(files, 'file')}"
            say_in_columns(
                f"Note: predictions of {done} are in {short(folder)}; the same command does the others, when the "
                "cause of the error is mended or its file left out"
            )
        raise
    return made, bad


def refuse_unusable(bad: Sequence[DataError], files: int) -> None:
    """End the command with an error if files could not be used.

    Raises:
        DataError: with the reason, or how many there are and the first; more are printed before it.
    """
    if not bad:
        return
    others = "; the others are done" if len(bad) < files else ""
    say_in_columns(
        f"Note: {len(bad):,} of {quantity(files, 'file')} cannot be used{others}. Mend them, or leave them out, then "
        "run the same command again"
    )
    if len(bad) == 1:
        raise bad[0]
    for error in bad[:_MOST_SHOWN]:
        say_in_columns(f"Not predicted: {error}")
    if len(bad) > _MOST_SHOWN:
        say_in_columns(f"Not predicted: {len(bad) - _MOST_SHOWN:,} more")
    raise DataError(f"{len(bad):,} of {quantity(files, 'file')} cannot be used; the first: {bad[0]}")
