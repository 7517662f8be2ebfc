"""Networks with exits. weaver's networks are imported here first, without torch's compiler.

weaver decorates one method with ``torch._dynamo.disable``. This alone imports the compiler, which takes longer than
torch itself.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import SimpleNamespace
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
Result = TypeVar("Result")


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Let modules use ``torch._dynamo.disable`` for a while, without an import of ``torch._dynamo``."""
    if "torch._dynamo" in sys.modules:
        yield
        return
    vars(torch)["_dynamo"] = SimpleNamespace(disable=_not_compiled)
    try:
        yield
    finally:
        del vars(torch)["_dynamo"]  # torch imports the compiler when it is used


def _not_compiled(function: Callable[P, Result]) -> Callable[P, Result]:
    """Return the function, which the compiler leaves as it is once it has been imported."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Result:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        disabled: Callable[P, Result] = torch._dynamo.disable(function)  # type: ignore[no-untyped-call]
        return disabled(*args, **kwargs)

    return call


with _without_compiler():
    importlib.import_module("weaver.nn.model.ParticleTransformer")
