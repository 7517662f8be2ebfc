"""Loops over arrays that numba compiles, and what to do where it is not installed."""

import importlib
import logging
from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any, ParamSpec, TypeVar, cast, final

P = ParamSpec("P")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


def compiled(loop: Callable[P, Result]) -> Callable[P, Result]:
    """Return a loop over arrays as numba compiles it, without the interpreter's lock; numba keeps the code on disk."""
    import numba

    fast: Any = numba.njit(cache=True, nogil=True)(loop)
    compile_ = fast._compile_for_args

    def compile_alone(*args: object, **kwargs: object) -> object:
        with without_extensions():
            return compile_(*args, **kwargs)

    # numba calls this for arguments of new types only, so that a call costs nothing more.
    fast._compile_for_args = compile_alone
    return cast(Callable[P, Result], fast)


@final
class without_extensions:  # noqa: N801 - used as a function, and faster than a generator
    """Keep numba from loading the extensions of other packages for a while: a context manager.

    It loads them when it first compiles a function. Those of awkward and vector import sympy, which takes seconds. The
    loops of this package and of weaver work on plain arrays and need none. Other functions get them as always.
    """

    _lock = Lock()
    _users = 0
    _before = False

    def __enter__(self) -> None:
        from numba.core import entrypoints

        with self._lock:
            if without_extensions._users == 0:
                without_extensions._before = entrypoints._already_initialized
                entrypoints._already_initialized = True
            without_extensions._users += 1

    def __exit__(self, *reason: object) -> None:
        from numba.core import entrypoints

        with self._lock:
            without_extensions._users -= 1
            if without_extensions._users == 0:
                entrypoints._already_initialized = without_extensions._before


@cache
def has_numba() -> bool:
    """Return whether numba is installed; where it is not, warn once that ParticleNet is slower."""
    try:
        importlib.import_module("numba")
    except ModuleNotFoundError:
        _log.warning("numba is not installed: ParticleNet runs on the CPU without compiled loops; pip install numba")
        return False
    return True
