"""Modes on a card: what they write is what they write on the CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch

from phaze_ee.cli import main
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.training import TrainingHistory
from phaze_ee.workspace import Project
from tests.modes.predicting import columns_of, predict
from tests.modes.two_class_project import make_project, save_best_model, write_jets

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


# Dropout draws other numbers on a card.
SHORT = ("c.epochs = 1", "c.zero_epochs = 0", "c.seed = 1", "c.use_amp = False", 'c.optimizer = "adamw"')


def project_on(device: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a project whose modes run on a device, with the same random weights on each."""
    folder.mkdir()
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(folder / "workspaces"))
    project = make_project(folder, f'c.calibration_files = ["{folder}/other.root"]', *SHORT)
    project.config.write_text(project.config.read_text().replace('"cpu"', repr(device)).replace("0.1)]", "0.0)]"))
    write_jets(folder / "other.root", np.arange(60) % 2)
    save_best_model(project)
    return project


def test_a_card_evaluates_calibrates_and_predicts_as_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for device in ("cpu", "cuda"):
        project = project_on(device, tmp_path / device, monkeypatch)
        for words in (("calibrate", "--target", "budget", "--budget", "0.7"), ("evaluate",)):
            assert main(["-m", words[0], "-p", "Tops", "small", *words[1:]]) == 0
        assert predict("--format", "parquet") == 0
        policy = ExitPolicyFile.read(project.exit_policy, made_by="calibrate").policy()
        evaluation = EvaluationResults.read(project.evaluation_results, made_by="evaluate")
        found.append((policy, evaluation, columns_of(project.predictions / "val.parquet")))
    (policy, evaluation, columns), (other_policy, other_evaluation, other_columns) = found
    assert other_policy.thresholds == pytest.approx(policy.thresholds, abs=1e-4)
    assert {name: one.accuracy for name, one in other_evaluation.exits.items()} == {
        name: one.accuracy for name, one in evaluation.exits.items()
    }
    assert len(np.unique(columns["exit_index"])) > 1
    for name, values in columns.items():
        np.testing.assert_allclose(other_columns[name], values, rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_card_trains_as_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for device in ("cpu", "cuda"):
        project = project_on(device, tmp_path / device, monkeypatch)
        assert main(["-m", "train", "-p", "Tops", "small"]) == 0
        (epoch,) = TrainingHistory.read(project.training_history, "train").epochs
        found.append([*epoch.train_loss, *(epoch.val_loss or [])])
    assert found[1] == pytest.approx(found[0], rel=1e-3)
