"""Extreme input: one line that says what, where and what to do."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch

from phaze_ee.cli import main
from phaze_ee.data import schema as data_schema
from phaze_ee.data import stamps
from phaze_ee.data.epochs import EpochPlan
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.workspace import Project
from tests.end_to_end.command import fails
from tests.modes.exit_policies import write_policy
from tests.modes.two_class_project import make_project, save_best_model

Capture = pytest.CaptureFixture[str]
SMALL = ("-p", "Tops", "small")
TRAIN = ("-m", "train", *SMALL)
PREDICT = ("-m", "predict", *SMALL)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    project = make_project(tmp_path, "c.epochs = 1", "c.zero_epochs = 0", "c.tensorboard = False")
    save_best_model(project)
    return project


def configure(project: Project, line: str) -> None:
    with project.config.open("a") as file:
        file.write(f"    {line}\n")


def test_a_huge_learning_rate(project: Project, capsys: Capture) -> None:
    configure(project, "c.lr = 1e300")
    text = fails(capsys, 2, *TRAIN)
    assert str(project.config) in text
    assert "lr: " in text
    assert "less than or equal to 1" in text


def test_no_validation_jets_are_left(project: Project, capsys: Capture) -> None:
    configure(project, "c.calibration_share = 0.999")
    text = fails(capsys, 2, *TRAIN)
    assert text.startswith(f"{project.config}: calibration_share = 0.999 leaves no validation jets in ")
    assert not project.resume_point.exists()
    assert not project.logs.exists()


@pytest.mark.parametrize("mode", ["predict", "convert", "sweep", "generate"])
@pytest.mark.parametrize("number", ["-1", "1.5", "many"])
def test_numbers_of_workers(project: Project, capsys: Capture, mode: str, number: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["-m", mode, *SMALL, "--workers", number])
    printed = capsys.readouterr().err
    assert caught.value.code == 2
    assert f"--workers: {number!r} is not a whole number" in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("place", ["argument", "file", "folder", "workspaces"])
def test_names_that_are_not_utf8(
    project: Project, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/strange_\xff"))
    strange.mkdir()
    shutil.copy(tmp_path / "val.root", Path(os.fsdecode(os.fsencode(strange) + b"/jets_\xff.root")))
    files = f"{strange}/*.root" if place == "argument" else f"{tmp_path}/*/*.root"
    if place == "folder":
        monkeypatch.chdir(strange)
    if place == "workspaces":
        monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(strange))
    text = fails(capsys, 2, *PREDICT, "--files", files)
    assert r"strange_\xff" in text
    assert text.endswith("is not UTF-8; rename it")


def test_an_empty_hdf5_file(project: Project, tmp_path: Path, capsys: Capture) -> None:
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    text = fails(capsys, 2, *PREDICT, "--files", str(tmp_path / "empty.h5"))
    assert text.startswith(f"{tmp_path / 'empty.h5'} has no columns")


def test_a_long_error_keeps_the_file(project: Project, tmp_path: Path, capsys: Capture) -> None:
    data_config = tmp_path / "two_classes.yaml"
    expression = " + ".join(["p_pt"] * 2000 + ["p_none"])
    text = data_config.read_text().replace('"ak.ones_like(p_pt)"', f'"ak.ones_like({expression})"')
    data_config.write_text(text)
    text = fails(capsys, 2, *TRAIN)
    assert len(text) < 700
    assert "…" in text


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("thresholds", None, "thresholds: Input should be a valid array"),
        ("temperatures", [0.5], "give one for each of"),
        ("temperatures", [0.0, 1.0, 1.0], "must all be positive"),
    ],
)
def test_a_policy_of_another_content(project: Project, capsys: Capture, key: str, value: Any, problem: str) -> None:
    write_policy(project, ThresholdPolicy("confidence", [0.7, 0.7]))
    content = json.loads(project.exit_policy.read_text())
    project.exit_policy.write_text(json.dumps({**content, key: value}))
    text = fails(capsys, 2, *PREDICT)
    assert text.startswith(f"{project.exit_policy} is not a results file of this version (")
    assert problem in text


def test_a_file_that_changes_while_a_training_is_prepared(
    project: Project, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = EpochPlan.make

    def then_touch(*arguments: Any) -> Any:
        plan = make(*arguments)
        os.utime(tmp_path / "val.root", (1, 1))
        return plan

    monkeypatch.setattr(EpochPlan, "make", then_touch)
    assert fails(capsys, 2, *TRAIN) == str(stamps.changed(tmp_path / "val.root"))


def test_a_long_argument_is_cut(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main([*TRAIN, "--" + "x" * 5000, "several\nlines"])
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert len(printed) < 700
    assert printed.endswith("phaze_ee -m train --help shows the usage\n")


def test_a_file_that_changes_while_a_network_without_training_is_prepared(
    project: Project, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = data_schema.resolved_sections

    def then_touch(*arguments: Any) -> Any:
        os.utime(tmp_path / "val.root", (1, 1))
        return resolve(*arguments)

    text = (tmp_path / "two_classes.yaml").read_text().replace("method: manual", "method: auto")
    (tmp_path / "two_classes.yaml").write_text(text)
    monkeypatch.setattr(data_schema, "resolved_sections", then_touch)
    # Weights as weaver's, which do not tell their standardisation.
    torch.save(load_checkpoint(project.best_model).tagger.backbone.state_dict(), tmp_path / "weights.pt")
    configure(project, f"c.init_from = {str(tmp_path / 'weights.pt')!r}")
    project.best_model.unlink()
    assert fails(capsys, 2, "-m", "evaluate", *SMALL) == str(stamps.changed(tmp_path / "val.root"))
