"""One training of a project at a time."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from phaze_ee.atomic import remove_leftovers
from phaze_ee.errors import RunError, UsageError


@contextmanager
def training_lock(path: Path) -> Iterator[None]:
    """Lock ``path`` for this process, so that no second training writes to the same project.

    The operating system releases the lock when the process ends, for any reason, so that the files of a killed training
    block no other. Its temporary files in the folder are removed. A JSON file next to the lock names its owner.

    Raises:
        UsageError: another process has the lock.
        RunError: the folder cannot be written to, or its file system has no locks.
    """
    holder = path.with_suffix(".json")
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        remove_leftovers(path.parent)
    except Timeout as error:
        raise UsageError(
            f"{path.parent} is in use by another training ({_described(holder)}); wait for it, or stop it"
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"cannot lock {path}: {reason}; check permissions and that the file system has locks") from error
    try:
        yield
    finally:
        # Removed while locked: a process that has opened the file notices that it is deleted, and opens a new one.
        for left in (holder, path):
            with suppress(OSError):
                left.unlink()
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether a process has the lock now. A lock that may not be opened counts as free."""
    if not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _described(holder: Path) -> str:
    try:
        found = json.loads(holder.read_text())
        return f"process {found['pid']} on {found['host']}"
    except (OSError, ValueError, LookupError, TypeError):
        return "which has only just started"
