"""The card that is not there, for tests that start programs with it."""

from pathlib import Path

import pytest

from tests.pretend_card.running import compiled_hooks, missing


@pytest.fixture(scope="session")
def hooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library with which torch finds the card."""
    if reason := missing():
        pytest.skip(reason)
    return compiled_hooks(tmp_path_factory.mktemp("card"))
