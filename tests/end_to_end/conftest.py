"""One project, created and taken through the whole chain by the real command, once per session."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from phaze_ee.workspace import Project
from tests.end_to_end.command import SMALL, command, edit


@dataclass(frozen=True)
class Chained:
    """What the chain left behind."""

    workspaces: Path
    project: Project
    created: subprocess.CompletedProcess[str]
    chained: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Chained:
    workspaces = tmp_path_factory.mktemp("workspaces")
    elsewhere = tmp_path_factory.mktemp("elsewhere")  # not the checkout: the sample jets come with the package
    project = Project("JetClass", "first")
    created = command(workspaces, "-m", "new_project", "-p", "JetClass", "first", cwd=elsewhere)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHAZE_EE_WORKSPACES", str(workspaces))
        edit(project, **SMALL)
    run = command(workspaces, "-m", "chain", "-p", "JetClass", "first", cwd=elsewhere)
    assert list(elsewhere.iterdir()) == []
    return Chained(workspaces, project, created, run)


@pytest.fixture
def first(chained: Chained, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project that went through the chain, its workspaces being the current ones."""
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(chained.workspaces))
    assert chained.chained.returncode == 0, chained.chained.stderr
    return chained.project
