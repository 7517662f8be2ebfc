"""What mode train says before it begins."""

from pathlib import Path

import pytest

from phaze_ee.cli import main
from tests.modes.predicting import change_yaml, rewrite
from tests.modes.two_class_project import make_project


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    return tmp_path


def trained(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["-m", "train", "-p", "Tops", "small"]) == 0
    return capsys.readouterr().out


def test_one_batch_is_one_batch(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    make_project(folder, "c.epochs = 2", "c.zero_epochs = 0", "c.batch_size = 64", "c.tensorboard = False")
    assert "40 jets, 2 epochs of 1 batch; use_amp" in trained(capsys)
    assert "hold no jets" not in caplog.text


@pytest.mark.parametrize("cached", [False, True])
def test_a_class_without_jets_is_a_warning_with_counts(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, cached: bool
) -> None:
    make_project(folder, "c.epochs = 1", "c.zero_epochs = 0", "c.tensorboard = False")
    change_yaml(folder, "value: [is_qcd, is_top]", "value: [is_qcd, is_top, is_w]")
    change_yaml(folder, "new_variables: {", 'new_variables: {is_w: "is_top * 0", ')
    if cached:
        assert main(["-m", "convert", "-p", "Tops", "small"]) == 0
    trained(capsys)
    assert "the training files hold no jets of is_w (jets: is_qcd 20, is_top 20): the network" in caplog.text


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


def test_a_file_that_lacks_a_branch_is_refused_before_the_first_epoch(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(folder, "c.epochs = 2", "c.zero_epochs = 0", "c.tensorboard = False")
    rewrite(folder / "val.root", folder / "lacking.root", p_phi=None)
    own = project.config.read_text()
    for option in ("train_files = c.val_files", "train_files", "val_files", "test_files"):
        files = f"[{str(folder / 'val.root')!r}, {str(folder / 'lacking.root')!r}]"
        project.config.write_text(own + f"    c.{option} = {files}\n    c.file_fraction = 0.5\n")
        assert main(["-m", "chain", "-p", "Tops", "small", "-o", "train_evaluate"]) == 2
        found = capsys.readouterr()
        assert f"{folder}/lacking.root has no branch p_phi, which the inputs of {folder}/" in found.err
        assert "epoch" not in found.out
