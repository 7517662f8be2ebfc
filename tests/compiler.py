"""Tests that compile C++ are skipped where there is no compiler."""

import pytest

from phaze_ee.errors import UsageError
from phaze_ee.models.particle_net.native.build import find_compiler


def _found() -> bool:
    try:
        find_compiler()
    except UsageError:
        return False
    return True


needs_compiler = pytest.mark.skipif(not _found(), reason="needs a C++ compiler")
