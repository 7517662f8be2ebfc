"""A process that knows no parts of a user, whatever other tests have registered."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from phaze_ee import user_files
from phaze_ee.registry import REGISTERED


@contextmanager
def nothing_registered() -> Iterator[None]:
    """Start without registered parts and files, and restore what was there."""
    with ExitStack() as stack:
        for parts in REGISTERED.values():
            stack.enter_context(mock.patch.dict(parts, clear=True))
        stack.enter_context(mock.patch.dict(user_files._files, clear=True))
        stack.enter_context(mock.patch.object(user_files, "_plugins", set()))
        stack.enter_context(mock.patch.dict(sys.modules))
        yield
