"""Compilation of the C++ sources of this package for the machine at hand, on first use."""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from phaze_ee.atomic import replacing
from phaze_ee.errors import UsageError

_LOGGER = logging.getLogger(__name__)
_COMPILERS = ("c++", "g++", "clang++")
_INSTALL = "install g++ or clang++ (for example the package g++ or gcc-c++), or use backend='auto'"

_lock = threading.Lock()
_loaded: dict[Path, ctypes.CDLL] = {}


def load_library(source: Path) -> ctypes.CDLL:
    """Return the library of a source file. It is compiled if it is not in the cache.

    The name of a file in the cache has a hash of the source and its headers, the flags, and the predefined macros of
    the compiler, which describe its version and the processor. Different machines can share one home directory.

    Raises:
        UsageError: there is no compiler, or it fails.
        RunError: the cache cannot be written.
    """
    with _lock:
        compiler = find_compiler()
        library = cache_folder() / f"{source.stem}-{_fingerprint(compiler, source)}.so"
        if library not in _loaded:
            if not library.is_file():
                _compile(compiler, source, library)
            _loaded[library] = ctypes.CDLL(str(library))
        return _loaded[library]


def find_compiler() -> tuple[str, ...]:
    """Return the command of the C++ compiler: $CXX, or the first of c++, g++ and clang++ on $PATH.

    Raises:
        UsageError: there is none.
    """
    chosen = shlex.split(os.environ.get("CXX", ""))
    if chosen:
        if shutil.which(chosen[0]) is None:
            raise UsageError(
                f"the native backend needs a C++ compiler, and $CXX = {chosen[0]} is not found; {_INSTALL}"
            )
        return tuple(chosen)
    for name in _COMPILERS:
        if shutil.which(name) is not None:
            return (name,)
    raise UsageError(f"the native backend needs a C++ compiler: none of {', '.join(_COMPILERS)} is found; {_INSTALL}")


def cache_folder() -> Path:
    """Return the folder of compiled libraries: $PHAZE_EE_CACHE, or phaze_ee in the cache folder of the user."""
    chosen = os.environ.get("PHAZE_EE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phaze_ee"


def _flags() -> list[str]:
    arm = platform.machine().lower() in ("aarch64", "arm64")
    processor = "-mcpu=native" if arm else "-march=native"
    return ["-std=c++17", "-O3", processor, "-ffp-contract=fast", "-fPIC", "-shared"]


def _fingerprint(compiler: Sequence[str], source: Path) -> str:
    # The predefined macros name the version of the compiler and every extension of the processor that it uses.
    macros = _run([*compiler, *_flags(), "-dM", "-E", "-x", "c++", os.devnull])
    sources = [source, *sorted(source.parent.glob("*.hpp"))]
    parts = [*compiler, *_flags(), macros, *(path.read_text(encoding="utf-8") for path in sources)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _compile(compiler: Sequence[str], source: Path, library: Path) -> None:
    _LOGGER.info("Compiling %s with %s", source.name, compiler[0])
    # Two processes that compile at once rename complete files to the same name.
    with replacing(library) as temporary:
        _run([*compiler, *_flags(), str(source), "-o", str(temporary)])


def _run(command: Sequence[str]) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        lines = finished.stderr.strip().splitlines() or [f"exit status {finished.returncode}"]
        reason = next((line for line in lines if "error" in line), lines[0])
        raise UsageError(f"the native backend cannot be compiled with {command[0]}: {reason.strip()}; {_INSTALL}")
    return finished.stdout
