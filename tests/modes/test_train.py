"""What mode train says before it begins."""

from pathlib import Path

import pytest

from phaze_ee.cli import main
from tests.modes.two_class_project import make_project


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    return tmp_path


def trained(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["-m", "train", "-p", "Tops", "small"]) == 0
    return capsys.readouterr().out


def test_one_batch_is_one_batch(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_project(folder, "c.epochs = 2", "c.zero_epochs = 0", "c.batch_size = 64", "c.tensorboard = False")
    assert "40 jets, 2 epochs of 1 batch; use_amp" in trained(capsys)
