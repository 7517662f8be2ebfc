"""A project that version 0.1.0 made (2026-11-27, commit 92d1b46) works: it evaluates, predicts, plots and resumes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uproot

from phaze_ee.cli import main
from phaze_ee.data.files import fingerprint
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.training import TrainingHistory
from phaze_ee.workspace import Project

PROJECTS = Path(__file__).parent / "projects"
DONE = ("-p", "W", "done")
PREDICTED = "HToBB_000.root"


@pytest.fixture(autouse=True)
def projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(PROJECTS, tmp_path / "projects")
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "projects"))
    return tmp_path / "projects"


def test_evaluation_gives_the_same_figures() -> None:
    project = Project("W", "done")
    before = EvaluationResults.read(project.evaluation_results, made_by="evaluate")
    assert main(["-m", "evaluate", *DONE]) == 0
    after = EvaluationResults.read(project.evaluation_results, made_by="evaluate")
    assert after.model_hash == before.model_hash
    assert after.jets_per_class == before.jets_per_class
    for name, exit_ in before.exits.items():
        assert after.exits[name].accuracy == pytest.approx(exit_.accuracy, abs=2e-3)
        assert after.exits[name].roc_auc == pytest.approx(exit_.roc_auc, abs=1e-5)
        assert after.exits[name].loss == pytest.approx(exit_.loss, abs=1e-5)
        assert exit_.right_only_here is None
        here, in_full = after.exits[name].right_only_here, after.exits[name].right_only_in_full
        assert here is not None
        assert in_full is not None
        better = after.exits[name].accuracy - after.exits["full_model"].accuracy
        assert here - in_full == pytest.approx(after.jets * better)
    assert project.dynamic_results.is_file()  # the policy is still that of the model


def test_predictions_are_the_same() -> None:
    project = Project("W", "done")
    before = columns(project.predictions / PREDICTED)
    shutil.rmtree(project.predictions)
    assert main(["-m", "predict", *DONE, "--files", f"sample_jets/test/{PREDICTED}", "--exit-scores"]) == 0
    after = columns(project.predictions / PREDICTED)
    assert set(before) <= set(after)
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, atol=1e-5, err_msg=name)


def test_results_are_drawn() -> None:
    assert main(["-m", "plot", *DONE]) == 0
    assert (Project("W", "done").plots / "performance" / "flops_vs_accuracy.png").is_file()


def test_an_interrupted_training_ends_as_if_it_had_not_been_interrupted() -> None:
    session = Session.open(Request("train", "W", "stopped"))
    schema = session.schema.resolve(session.files("train_files"))
    point: dict[str, Any] = torch.load(session.project.resume_point, weights_only=True)
    # The files of the checkout have other paths and times here.
    point["phaze_ee"]["run"]["data"] = fingerprint([*session.files("train_files"), *session.files("val_files")], schema)
    torch.save(point, session.project.resume_point)
    assert main(["-m", "train", "-p", "W", "stopped"]) == 0
    found, expected = (history(Project("W", name)) for name in ("stopped", "done"))
    assert [epoch.keys() for epoch in found] == [epoch.keys() for epoch in expected]
    for ours, theirs in zip(found, expected, strict=True):
        for name in ours.keys() - {"jets_per_second"}:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=2e-3, err_msg=name)
    weights, others = (
        load_checkpoint(Project("W", name).best_model).tagger.state_dict() for name in ("stopped", "done")
    )
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], rtol=1e-2, atol=1e-3, msg=name)


def columns(path: Path) -> dict[str, np.ndarray]:
    with uproot.open(path) as file:
        tree = next(file[name] for name, kind in file.classnames().items() if kind == "TTree")
        return {name: tree[name].array(library="np") for name in tree.keys()}  # noqa: SIM118 - a tree is no dict


def history(project: Project) -> list[dict[str, Any]]:
    record = TrainingHistory.read(project.training_history, made_by="train")
    return [json.loads(epoch.model_dump_json()) for epoch in record.epochs]
