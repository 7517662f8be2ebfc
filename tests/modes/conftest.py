"""Each test begins a command, and a project that mode predict can run on."""

from pathlib import Path

import pytest

from phaze_ee.modes import console
from phaze_ee.modes import predict as predict_mode
from phaze_ee.workspace import Project
from tests.modes.two_class_project import make_project, save_best_model


@pytest.fixture(autouse=True)
def _a_new_command() -> None:
    """Forget what earlier tests printed: a command prints some lines only once."""
    console.begin()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    monkeypatch.setattr(predict_mode, "EVALUATION_ROWS", 15)
    project = make_project(tmp_path)
    save_best_model(project)
    return project
