"""A process that knows no parts of a user, whatever other tests have registered."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from unittest import mock

from phaze_ee import user_files
from phaze_ee.registry import REGISTERED


@contextmanager
def nothing_registered() -> Iterator[None]:
    """Start without registered parts and files of the user, and restore them at the end."""
    with ExitStack() as stack:
        for parts in REGISTERED.values():
            stack.enter_context(mock.patch.dict(parts, clear=True))
        stack.enter_context(mock.patch.dict(user_files._files, clear=True))
        stack.enter_context(mock.patch.object(user_files, "_plugins", set()))
        modules = _take_modules()
        try:
            yield
        finally:
            _take_modules()
            sys.modules.update(modules)


def _take_modules() -> dict[str, ModuleType]:
    # Other modules stay: torch cannot be imported twice.
    names = [name for name in sys.modules if name.startswith(user_files._PREFIX)]
    return {name: sys.modules.pop(name) for name in names}
