"""C++ sources of this package, compiled for the machine at hand when they are first needed."""

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
    """Return the library made from a source file; it is compiled where the cache does not hold it.

    Files of the cache are named by a hash of the source and the headers beside it, of the flags, and of what the
    compiler says of itself and of the processor, so that one home directory may serve different machines.

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
    """Return where libraries are kept: $PHAZE_EE_CACHE, or phaze_ee in the user's folder for caches."""
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
    # Two processes that compile at once both rename a whole file to the same name.
    with replacing(library) as temporary:
        _run([*compiler, *_flags(), str(source), "-o", str(temporary)])


def _run(command: Sequence[str]) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        lines = finished.stderr.strip().splitlines() or [f"exit status {finished.returncode}"]
        reason = next((line for line in lines if "error" in line), lines[0])
        raise UsageError(f"the native backend cannot be compiled with {command[0]}: {reason.strip()}; {_INSTALL}")
    return finished.stdout
