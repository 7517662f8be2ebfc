"""The scene is built once for all tests of the fuzzer."""

from pathlib import Path

import pytest

from tests.fuzz.scene import build


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the scene."""
    folder = tmp_path_factory.mktemp("fuzz")
    build(folder)
    return folder
