"""Notices files that change while they are in use."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from phaze_ee.errors import DataError

Stamp = tuple[int, int] | None


def stamp(path: Path) -> Stamp:
    """Return size and time of change of a file; None if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


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
