"""One training of a project at a time."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from phaze_ee.atomic import remove_leftovers
from phaze_ee.locks import held


@contextmanager
def training_lock(path: Path) -> Iterator[None]:
    """Lock ``path`` for this process, so that no second training writes to the same project.

    The files of a killed training block no other; its temporary files in the folder are removed.

    Raises:
        UsageError: another process has the lock.
        RunError: the folder cannot be written to, or its file system has no locks.
    """
    with held(path, "training"):
        remove_leftovers(path.parent)
        try:
            yield
        finally:
            # Removed while locked: a process that has opened the file notices that it is deleted, and opens a new one.
            with suppress(OSError):
                path.unlink()
