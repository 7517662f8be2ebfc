"""Files that are either whole or absent: written under a temporary name, synced and renamed."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from phaze_ee.errors import RunError


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
