"""Mode convert: convert the jets of a project into a cache that training and evaluation read much faster."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from phaze_ee.data.cache.build import Job, build_cache
from phaze_ee.data.cache.reader import Cache
from phaze_ee.machine import core_count
from phaze_ee.modes.console import console, say, show
from phaze_ee.modes.session import FileOption, Session
from phaze_ee.tables.style import empty_table


def run(session: Session) -> None:
    """Convert the training, validation, test and calibration files, and say how large the caches are."""
    root, wanted = session.cache_root, session.request.workers
    workers = session.options.num_workers if wanted is None else wanted
    table = empty_table("Jets for training and evaluation", ["jets", "MB", "bytes/jet", "seconds"], first="files")
    caches = []
    for option, job in _jobs(session):
        start = time.monotonic()
        caches.append(_convert(root, option, job, max(1, min(workers, core_count()))))
        _add_row(table, option, caches[-1], time.monotonic() - start)
    show(table)
    say(f"Written: {root}")
    _name_others(root, caches)


def _jobs(session: Session) -> Iterator[tuple[FileOption, Job]]:
    train_files = session.files("train_files")
    resolved = session.schema.resolve(train_files)
    yield "train_files", Job(session.schema, resolved, train_files, training=True)
    names: tuple[FileOption, ...] = ("val_files", "test_files", "calibration_files")
    for option in names:
        if getattr(session.options, option):
            labelled = option != "calibration_files" or session.options.exit_target != "agreement"
            yield option, Job(resolved, resolved, session.files(option), training=False, labelled=labelled)


def _convert(root: Path, option: str, job: Job, workers: int) -> Cache:
    columns = (TextColumn(option), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return build_cache(root, job, workers=workers, advance=advance)


def _add_row(table: Table, option: str, cache: Cache, seconds: float) -> None:
    size = cache.byte_count
    table.add_row(
        option, f"{cache.jet_count:,}", f"{size / 1e6:,.1f}", f"{size / cache.jet_count:,.0f}", f"{seconds:.1f}"
    )


def _name_others(root: Path, caches: list[Cache]) -> None:
    """Print the caches of other files or data configurations, which may be deleted."""
    own = {cache.folder.name for cache in caches}
    others = sorted(path for path in root.iterdir() if path.is_dir() and path.name not in own)
    if others:
        size = sum(entry.stat().st_size for path in others for entry in os.scandir(path))
        say(
            f"Note: caches of other files or of another data config take {size / 1e6:,.1f} MB there: "
            f"{', '.join(path.name for path in others)}; delete those that no project needs."
        )
