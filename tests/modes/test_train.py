"""What mode train says before it begins."""

from pathlib import Path

import pytest

from phaze_ee.cli import main
from tests.modes.predicting import change_yaml
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


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["-m", "train", "-p", "Tops", "small"]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("line", ["c.background = 'is_qcd'", "c.signal = 'is_qcd'"])
def test_a_misspelt_label_is_named_and_not_the_class_of_the_configuration(
    folder: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    make_project(folder, line)
    change_yaml(folder, "[is_qcd,", "[is_qcdd,")
    found = refused(capsys)
    assert f"{folder}/val.root has no branch is_qcdd (did you mean 'is_qcd'?), which the labels of {folder}/" in found


def test_a_misspelt_class_of_the_configuration_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_project(folder, "c.background = 'is_qcdd'")
    assert "background 'is_qcdd' in the configuration is not a class" in refused(capsys)
