"""Who works on a trial: a lock that the system lets go when the last process of the trial is gone."""

import fcntl
import os
from pathlib import Path
from typing import Self

from phaze_ee.errors import RunError


class Claim:
    """Holds a lock file until :meth:`release`.

    The trial's own process inherits :attr:`descriptor`. If the sweep is killed and its trial lives on, nobody takes
    this trial for abandoned; where both are gone, the system has let go and the trial can be taken up. (filelock does
    not pass a lock on to another process.) Between nodes it needs a file system with flock: NFS, GPFS, CephFS, Lustre
    mounted with ``flock``.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.descriptor = descriptor
        self._path = path

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """Return the lock, or None where another process holds it.

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
        return cls(path, descriptor)

    def release(self) -> None:
        """Let go, and remove the file."""
        self._path.unlink(missing_ok=True)
        os.close(self.descriptor)
