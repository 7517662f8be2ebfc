"""The lock of a project that a command works on in another process."""

import fcntl
import os
from pathlib import Path
from typing import Self

from phaze_ee.errors import RunError


class Claim:
    """A lock file that is held until :meth:`release`.

    The process that works on a project inherits :attr:`descriptor`. So the lock is held while the command that started
    it or the process itself is alive. When both are dead the system releases it, and the same command can continue the
    work. (filelock cannot pass a lock to another process.) Several nodes need a file system with flock: NFS, GPFS,
    CephFS, or Lustre mounted with ``flock``.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.descriptor = descriptor
        self._path = path

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """Return the lock; None if another process holds it.

        Raises:
            RunError: the file system has no locks.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise RunError(
                f"cannot lock {path}: {error.strerror}; use a workspace on a file system with locks (flock)"
            ) from error
        if not _is_at(path, descriptor):  # its holder has released it meanwhile: others would lock a new file
            os.close(descriptor)
            return cls.take(path)
        return cls(path, descriptor)

    def release(self) -> None:
        """Release the lock and remove the file."""
        self._path.unlink(missing_ok=True)
        os.close(self.descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether an open file is the one at a path, and not one that was removed."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
