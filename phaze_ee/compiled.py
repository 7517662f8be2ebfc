"""Loops over arrays that numba compiles, and what to do where it is not installed."""

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from threading import Lock
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)
_lock = Lock()


def compiled(loop: Callable[P, Result]) -> Callable[P, Result]:
    """Return a loop over arrays as numba compiles it, see :func:`compiled_part`, to be called from Python."""
    fast = compiled_part(loop)
    ready = False

    @wraps(loop)
    def call(*args: P.args, **kwargs: P.kwargs) -> Result:
        nonlocal ready
        if ready:
            return fast(*args, **kwargs)
        with _lock, without_extensions():
            result = fast(*args, **kwargs)
            ready = True
        return result

    return call


def compiled_part(loop: Callable[P, Result]) -> Callable[P, Result]:
    """Return a function for use in compiled loops. It runs without the interpreter's lock; numba keeps it on disk."""
    import numba

    fast: Callable[P, Result] = numba.njit(cache=True, nogil=True)(loop)
    return fast


@contextmanager
def without_extensions() -> Iterator[None]:
    """Keep numba from loading the extensions of other packages for a while.

    It loads them when it first compiles a function. Those of awkward and vector import sympy, which takes seconds. The
    loops of this package and of weaver work on plain arrays and need none. Other functions get them as always.
    """
    from numba.core import entrypoints

    before, entrypoints._already_initialized = entrypoints._already_initialized, True
    try:
        yield
    finally:
        entrypoints._already_initialized = before


@cache
def has_numba() -> bool:
    """Return whether numba is installed; where it is not, warn once that ParticleNet is slower."""
    try:
        importlib.import_module("numba")
    except ModuleNotFoundError:
        _log.warning("numba is not installed: ParticleNet runs on the CPU without compiled loops; pip install numba")
        return False
    return True
