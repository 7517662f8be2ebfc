"""Loops over arrays that numba compiles, and what to do where it is not installed."""

import importlib
import logging
from collections.abc import Callable
from functools import cache
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


def compiled(loop: Callable[P, Result]) -> Callable[P, Result]:
    """Return a loop over arrays as numba compiles it, without the interpreter's lock; numba keeps the code on disk.

    At the first call of a compiled function numba loads the extensions of other packages. Those of awkward and vector
    import sympy, which takes seconds. The loops of this package and of weaver work on plain arrays. So numba is told
    that it has the extensions; code that passes awkward arrays to numba calls ``ak.numba.register()`` itself.
    """
    import numba
    from numba.core import entrypoints

    entrypoints._already_initialized = True
    fast: Callable[P, Result] = numba.njit(cache=True, nogil=True)(loop)
    return fast


@cache
def has_numba() -> bool:
    """Return whether numba is installed; where it is not, warn once that ParticleNet is slower."""
    try:
        importlib.import_module("numba")
    except ModuleNotFoundError:
        _log.warning("numba is not installed: ParticleNet runs on the CPU without compiled loops; pip install numba")
        return False
    return True
