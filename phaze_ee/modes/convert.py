"""Mode convert: convert the jets of a project into a cache that training and evaluation read much faster."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from phaze_ee.data.cache.build import Job, build_cache
from phaze_ee.data.cache.reader import Cache
from phaze_ee.data.schema import DataSchema
from phaze_ee.machine import core_count
from phaze_ee.modes.console import console, say, say_written, show
from phaze_ee.modes.jets import (
    calibration_schema,
    resolved_schema,
    shares_validation_files,
    testing_schema,
    training_schema,
    validation_schema,
)
from phaze_ee.modes.session import FileOption, Session
from phaze_ee.modes.start import starting_schema
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
    say_written(root)
    _name_others(root, caches)


def _jobs(session: Session) -> Iterator[tuple[FileOption, Job]]:
    """Yield what the modes will look for; validation files twice, if calibrate selects other jets of them."""
    resolved = resolved_schema(session, None)
    own, wanted = training_schema(session, starting_schema(session)), training_schema(session, resolved)
    yield "train_files", Job(own, wanted, session.files("train_files"), training=True)
    labelled = session.options.exit_target != "agreement"
    tests, calibration = testing_schema(session, resolved), calibration_schema(session, resolved)
    kinds: dict[tuple[FileOption, DataSchema, bool], None] = {
        ("val_files", validation_schema(session, resolved), True): None
    }
    if shares_validation_files(session):
        kinds["val_files", calibration, labelled] = None
    if session.options.test_files:
        kinds["test_files", tests, True] = None
    if session.options.calibration_files:
        kinds["calibration_files", calibration, labelled] = None
    for option, schema, has_labels in kinds:
        yield option, Job(schema, schema, session.files(option), training=False, labelled=has_labels)


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
