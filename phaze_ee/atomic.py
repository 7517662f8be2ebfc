"""Atomic writes: a file or folder is written under a temporary name, synced to disk and renamed."""

import os
import re
import secrets
import shutil
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from phaze_ee.errors import RunError

# Stem, host, process and, in those of this version, a random part.
_TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)(\.tmp[0-9a-f]+)?(\.[^.]*)?")
_STEM = 50  # characters of the stem, so that the name is not too long for the file system


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``, and rename it to ``path`` on success.

    The temporary file exists and is empty. Its name has the same suffix, because many writers choose the format by it,
    and a random part, so that nobody can plant a link there. An existing file is replaced only by a complete one. After
    an error no temporary file is left.

    Raises:
        RunError: the file could not be written, for example because the disk is full.
    """
    temporary = path.with_name(f"{_unique(path.stem)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"cannot write {path}: {reason}; free space or check permissions, then run again") from error
    finally:
        with suppress(OSError):  # the folder may be missing or read-only, which is reported above
            temporary.unlink()


def check_can_write(folder: Path) -> None:
    """Refuse a folder that nothing can be written to, before hours are spent on what it shall hold.

    Raises:
        RunError: it, or the folder that it will be made in, is read-only.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise RunError(f"cannot write to {existing}: it is read-only for you; check permissions, then run again")


@contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yield a new folder in ``parent`` and remove it afterwards; :func:`remove_abandoned` removes those of killed runs.

    Raises:
        RunError: it cannot be made.
    """
    folder = parent / _unique(name)
    try:
        folder.mkdir()
    except OSError as error:
        raise RunError(f"cannot write to {parent}: {error.strerror}; free space or check permissions") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replacing_folder(path: Path, kept: Collection[str] = ()) -> Iterator[Path]:
    """Yield a new temporary folder beside ``path``, and give it that name on success, in place of an older one.

    After an error no temporary folder is left, and an older folder stays as it was. A link to a folder stays.

    Args:
        path: the folder.
        kept: names of files and folders in the older one that the new one gets too.

    Raises:
        RunError: the folder could not be written, for example because the disk is full.
    """
    try:
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(path.parent, path.name) as temporary, temporary_folder(path.parent, path.name) as older:
            yield temporary
            for file in temporary.iterdir():
                _sync(file)
            for name in kept:
                _copy(path / name, temporary / name)
            if path.exists():
                path.rename(older / path.name)
            temporary.rename(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"cannot write {path}: {reason}; free space or check permissions, then run again") from error


def remove_leftovers(folder: Path) -> None:
    """Remove all temporary files from a folder that no other process is writing to."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            _remove(path)


def remove_abandoned(folder: Path) -> None:
    """Remove temporary files and folders of dead processes of this machine; others may be writing to the folder.

    A folder that does not exist holds none. Files that may not be removed stay.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            found = _TEMPORARY.fullmatch(path.name)
            if found and f".{socket.gethostname()}.{found['pid']}." in path.name and not _is_alive(int(found["pid"])):
                _remove(path)


def _unique(stem: str) -> str:
    """Return a name that nobody can foresee, and that tells which process it is of."""
    return f".{stem[:_STEM]}.{socket.gethostname()}.{os.getpid()}.tmp{secrets.token_hex(4)}"


def _copy(path: Path, target: Path) -> None:
    """Copy a file or a folder; links stay links."""
    if path.is_dir() and not path.is_symlink():
        shutil.copytree(path, target, symlinks=True)
    else:
        shutil.copy2(path, target, follow_symlinks=False)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file is on disk; OSError if it is a link, or if nothing was written."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if not os.fstat(descriptor).st_size:
            raise OSError("nothing was written")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # the process is another user's
        return True
    return True
