"""Fixtures that several test packages share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with published weights and real jets, which is not part of the project."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (published weights and real jets), which is not part of the project")
    return SHARED
