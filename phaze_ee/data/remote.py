"""Files on an XRootD server, ``root://host//path``, as paths: read through fsspec-xrootd, the extra ``xrootd``."""

import os
from pathlib import Path, PosixPath
from types import SimpleNamespace
from typing import Any, Self

from phaze_ee.errors import UsageError
from phaze_ee.installation import extra_command

SCHEME = "root://"


class RemoteFile(PosixPath):
    """A file on a server. Its text is the URL; size and time of change are those that the server says."""

    @classmethod
    def of_url(cls, url: str) -> Self:
        """Return the file of a URL."""
        return cls(url)

    def __str__(self) -> str:
        scheme, host, *others = self.parts
        return f"{scheme}//{host}//{'/'.join(others)}"

    def __fspath__(self) -> str:
        return str(self)

    def absolute(self) -> Self:
        return self

    def resolve(self, strict: bool = False) -> Self:
        return self

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        try:
            self.stat()
        except OSError:
            return False
        return True

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return ``st_size`` and ``st_mtime_ns`` alone.

        Raises:
            OSError: there is no such file, or the server does not answer.
        """
        file_system, path = _file_system("file", str(self))
        info = file_system.info(path)
        found: Any = SimpleNamespace(st_size=int(info["size"]), st_mtime_ns=int(float(info.get("mtime", 0)) * 1e9))
        return found  # type: ignore[no-any-return]


def remote_files(option: str, pattern: str) -> list[Path]:
    """Return the files on a server that a pattern matches, sorted.

    Args:
        option: the name of the option, for errors.
        pattern: ``root://host//path``, where the path may have ``*``, ``?`` and ``[ ]``.

    Raises:
        UsageError: no file matches, the server does not answer, or fsspec-xrootd is not installed.
    """
    file_system, path = _file_system(option, pattern)
    host = pattern.removeprefix(SCHEME).split("/")[0]
    try:
        found = file_system.glob(path) if any(sign in path for sign in "*?[") else [path] * file_system.exists(path)
    except OSError as error:
        raise UsageError(f"{option}: cannot look for {pattern!r}: {' '.join(str(error).split())}") from error
    if not found:
        raise UsageError(f"{option}: no file matches {pattern!r}; correct it")
    return sorted(RemoteFile.of_url(f"{SCHEME}{host}//{name.lstrip('/')}") for name in found)


def _file_system(option: str, url: str) -> tuple[Any, str]:
    try:
        import fsspec

        file_system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"{option}: {url} is read through fsspec-xrootd, which is not installed; install it, "
            f"{extra_command('xrootd')}, or copy the file"
        ) from error
    return file_system, str(path)
