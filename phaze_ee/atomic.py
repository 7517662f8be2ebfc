"""Files that are either whole or absent: written under a temporary name, synced and renamed."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from phaze_ee.errors import RunError

_TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)(\.[^.]*)?")  # host and process in it, so that no two write to the same


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the place of ``path``.

    The temporary name keeps the suffix, since many writers choose the format by it. Whatever happens, an existing
    ``path`` is replaced only by a complete file, and no temporary file is left.

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
        with suppress(OSError):  # the folder may not be one, or may be read-only: reported above
            temporary.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half written in a folder to which nobody else writes now."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove what processes of this machine that are dead left half written in a folder to which others may write."""
    for path in folder.iterdir():
        found = _TEMPORARY.fullmatch(path.name)
        if found and f".{socket.gethostname()}.{found['pid']}" in path.name and not _is_alive(int(found["pid"])):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
