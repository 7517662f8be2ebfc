"""Locks of files that only one process at a time may change."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from phaze_ee.errors import RunError, UsageError

# A hundred jobs of a batch system that end at once take their turns in less; hourly ones do not pile up behind one that
# hangs.
_LONGEST_WAIT = 3600  # seconds
_POLL = 0.2  # seconds: a shared file system is asked no more often


@contextmanager
def held(path: Path, what: str, tell: Callable[[str], None] | None = None) -> Iterator[None]:
    """Lock ``path`` for this process.

    The system releases it when the process ends, for any reason, so a killed one blocks no other. The file stays: on a
    shared file system, one that is removed may be locked twice. A JSON file next to it names the owner.

    Args:
        path: the file of the lock. The folder that it is in is what is in use.
        what: holds such locks, in a word.
        tell: says that this process waits for another, for an hour at most; None: it does not wait.

    Raises:
        UsageError: another process has the lock.
        RunError: the folder cannot be written to, or its file system has no locks.
    """
    holder = path.with_suffix(".json")
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if tell is None:
                raise
            tell(f"Waiting: another {what} ({_described(holder)}) is at work in {path.parent}")
            lock.acquire(timeout=_LONGEST_WAIT, poll_interval=_POLL)
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    except Timeout as error:
        raise UsageError(
            f"{path.parent} is in use by another {what} ({_described(holder)}); wait for it, or stop it"
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(
            f"cannot lock {path}: {reason}; free space, or check permissions and locks of the file system"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
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
