"""Atomic writes: a file is written under a temporary name, synced to disk and renamed."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from phaze_ee.errors import RunError

_TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)(\.[^.]*)?")  # with host and process: no two write to one file


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``, and rename it to ``path`` on success.

    The temporary name has the same suffix, because many writers choose the format by it. An existing file is replaced
    only by a complete one. After an error no temporary file is left.

    Raises:
        RunError: the file could not be written, for example because the disk is full.
    """
    temporary = path.with_name(f".{path.stem}.{socket.gethostname()}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"cannot write {path}: {reason}; free space or check permissions, then run again") from error
    finally:
        with suppress(OSError):  # the folder may be missing or read-only, which is reported above
            temporary.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove all temporary files from a folder that no other process is writing to."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of dead processes of this machine; other processes may be writing to the folder."""
    for path in folder.iterdir():
        found = _TEMPORARY.fullmatch(path.name)
        if found and f".{socket.gethostname()}.{found['pid']}" in path.name and not _is_alive(int(found["pid"])):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process is another user's
        return True
    return True
