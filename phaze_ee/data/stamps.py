"""Notices files that change while they are in use."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from phaze_ee.errors import DataError

Stamp = tuple[int, int] | None  # size and modification time


def stamp(path: Path) -> Stamp:
    """Return size and modification time of a file; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def known_stamp(path: Path) -> tuple[int, int]:
    """Return the stamp of a file that must exist.

    Raises:
        DataError: the file does not exist.
    """
    found = stamp(path)
    if found is None:
        raise missing(path)
    return found


def missing(path: Path) -> DataError:
    """Return the error for a file that does not exist."""
    return DataError(f"data file {path} does not exist (any more); restore it or correct the file list")


def stamps(paths: Iterable[Path]) -> Mapping[Path, Stamp]:
    """Return the stamps of files as they are now."""
    return {path: stamp(path) for path in dict.fromkeys(paths)}


def changed(path: Path) -> DataError:
    """Return the error for a file that has changed."""
    return DataError(f"{path} changed while it was in use; start again with files that stay as they are")


@contextmanager
def unchanged(paths: Iterable[Path]) -> Iterator[None]:
    """Check that files are the same after the block as before.

    Raises:
        DataError: one has changed.
    """
    before = stamps(paths)
    yield
    for path, earlier in before.items():
        if stamp(path) != earlier:
            raise changed(path)
