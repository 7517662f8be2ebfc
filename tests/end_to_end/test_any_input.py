"""Any data configuration and any ROOT file through the command: it works, or says why not in one line."""

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from phaze_ee.cli import main
from tests.data.small import jet_files
from tests.data.test_any_input import configurations
from tests.end_to_end.dying import TRAIN
from tests.modes.two_class_project import make_project


def answers(*arguments: str) -> int:
    """Run the command; return its status, after checking that an error is one line and no traceback."""
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
        status = main(arguments)
    text = printed.getvalue()
    assert "Traceback" not in text
    assert [line.startswith("phaze_ee: error: ") for line in text.splitlines()] == [True] * bool(status)
    return status


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project for the jets of the small data configuration."""
    folder = tmp_path_factory.mktemp("any")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHAZE_EE_WORKSPACES", str(folder / "workspaces"))
        jets = str(jet_files(folder, [12])[0])
        make_project(
            folder,
            f"c.train_files = c.val_files = c.test_files = [{jets!r}]",
            "c.epochs = 1",
            "c.zero_epochs = 0",
            "c.tensorboard = False",
        )
    return folder


@settings(max_examples=12, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(options=configurations())
def test_data_configurations(folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(folder / "workspaces"))
    (folder / "two_classes.yaml").write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")
    if answers(*TRAIN, "--fresh", "--yes") == 0:
        answers("-m", "evaluate", "-p", "Tops", "small")
