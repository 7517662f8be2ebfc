"""``evaluate --ood`` on a small project, and the figures of it."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
import yaml

from phaze_ee.data.schema import DataSchema, schema_with_inputs_of
from phaze_ee.errors import DataError, UsageError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.modes import benchmark, evaluate, plot
from phaze_ee.modes.session import Session
from phaze_ee.results.ood import OODResults
from phaze_ee.workspace import Project
from tests.modes.exit_policies import write_policy
from tests.modes.predicting import notes
from tests.modes.two_class_project import DATA_CONFIG, JETS, make_project, request, save_best_model
from tests.plots.undrawn import write_nothing

OOD_JETS = 25


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    project = make_project(tmp_path)
    save_best_model(project)
    write_unlabelled(tmp_path / "other.root", ("p_eta", "p_phi", "p_pt"))
    return project


def write_unlabelled(path: Path, names: tuple[str, ...], tree: str = "Events") -> None:
    """Write jets with particles and nothing else."""
    values = 2 * np.random.default_rng(1).normal(size=(len(names), OOD_JETS, 12)).astype(np.float32)
    with uproot.recreate(path) as file:
        file.mktree(tree, dict.fromkeys(names, ("f4", (12,))))
        file[tree].extend(dict(zip(names, values, strict=True)))


def run(folder: Path, pattern: str = "other.root", data_config: str | None = None) -> None:
    wanted = dataclasses.replace(
        request("evaluate"), details=True, ood=[str(folder / pattern)], ood_data_config=data_config
    )
    evaluate.run(Session.open(wanted))


def results_of(project: Project) -> OODResults:
    return OODResults.read(project.ood_results, made_by="evaluate")


def test_jets_without_labels_are_judged_and_drawn(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_policy(project, ThresholdPolicy("confidence", (0.55, 0.55)))
    run(tmp_path)
    results = results_of(project)
    assert (results.jets, results.ood_jets) == (JETS, OOD_JETS)
    assert list(results.exits) == ["exit_0", "exit_1", "full_model"]
    assert results.policy is not None
    printed = capsys.readouterr().out
    assert "AUROC of 25 OOD jets against 40 jets of Tops/small" in printed
    assert "Where jets leave by the policy of score confidence" in printed
    assert "only 25 OOD jets" in printed

    monkeypatch.setattr("phaze_ee.modes.plot.write_drawings", write_nothing)
    monkeypatch.setattr("phaze_ee.modes.benchmark._SECONDS", 0.0)
    benchmark.run(Session.open(request("benchmark")))
    plot.run(Session.open(request("plot")))
    assert sorted(path.name for path in (project.plots / "ood").glob("*.png")) == ["auroc.png", "scores.png"]


def test_results_of_an_earlier_model_are_not_drawn(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    save_best_model(project, epoch=4)
    monkeypatch.setattr("phaze_ee.modes.plot.write_drawings", write_nothing)
    monkeypatch.setattr("phaze_ee.modes.benchmark._SECONDS", 0.0)
    evaluate.run(Session.open(request("evaluate")))
    benchmark.run(Session.open(request("benchmark")))
    plot.run(Session.open(request("plot")))
    assert "ood_results.json was made with another model" in notes(capsys.readouterr().out)
    assert not (project.plots / "ood").exists()


def test_wrong_files_end_before_anything_is_written(project: Project, tmp_path: Path) -> None:
    write_unlabelled(tmp_path / "lacking.root", ("p_eta", "p_phi"))
    with pytest.raises(UsageError, match="--ood: no file matches"):
        run(tmp_path, "nothing_*.root")
    with pytest.raises(DataError, match=r"lacking\.root has no branch p_pt"):
        run(tmp_path, "lacking.root")
    with pytest.raises(UsageError, match="--ood-data-config says how the files of --ood are read; give --ood too"):
        evaluate.run(Session.open(dataclasses.replace(request("evaluate"), ood_data_config="x.yaml")))
    assert not project.evaluation_results.exists()


def test_other_names_of_branches_need_a_data_config_of_their_own(project: Project, tmp_path: Path) -> None:
    run(tmp_path)
    write_unlabelled(tmp_path / "renamed.root", ("q_eta", "q_phi", "q_pt"), tree="jets")
    options = {**yaml.safe_load(DATA_CONFIG), "treename": "jets", "branch_magic": {"p_": "q_"}}
    del options["labels"]
    path = tmp_path / "renamed.yaml"
    path.write_text(yaml.safe_dump(options), encoding="utf-8")
    first = results_of(project)
    run(tmp_path, "renamed.root", str(path))
    assert results_of(project).exits == first.exits


def test_a_selection_of_their_own(project: Project, tmp_path: Path) -> None:
    options = {**yaml.safe_load(DATA_CONFIG), "selection": "p_pt[:, 0] > -1"}
    path = tmp_path / "selected.yaml"
    path.write_text(yaml.safe_dump(options), encoding="utf-8")
    run(tmp_path, data_config=str(path))
    assert 10 <= results_of(project).ood_jets < OOD_JETS


MODEL: dict[str, Any] = {
    **yaml.safe_load(DATA_CONFIG),
    "inputs": {
        "pf_points": {"length": 16, "vars": [["p_eta", None], ["p_phi", None]]},
        "pf_features": {"length": 16, "vars": [["p_eta", None], ["p_phi", None], ["p_pt", 1.5, 0.5]]},
        "pf_mask": {"length": 16, "vars": [["p_mask", None]]},
    },
}


def inputs_with(**changes: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(MODEL)
    changed["inputs"].update(changes)
    return changed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            inputs_with(pf_features={"length": 16, "vars": ["p_eta", "p_phi"]}),
            "x.yaml: pf_features lacks p_pt; give",
        ),
        (
            inputs_with(pf_vectors={"length": 16, "vars": ["p_eta"] * 4}),
            "x.yaml: the model does not know pf_vectors; give",
        ),
        (
            inputs_with(pf_features={"length": 16, "vars": ["p_phi", "p_eta", ["p_pt", 1.5, 0.5]]}),
            "x.yaml: the variables of pf_features come in another order; give",
        ),
        (
            inputs_with(pf_features={"length": 16, "vars": ["p_eta", "p_phi", "p_pt", "p_mask"]}),
            "x.yaml: pf_features has p_mask, which the model does not know; give",
        ),
        (
            inputs_with(pf_features={"length": 16, "vars": ["p_eta", "p_phi", ["p_pt", 1.5, 0.7]]}),
            "x.yaml: p_pt has scale 0.7, the model was trained with 0.5; copy",
        ),
    ],
)
def test_other_inputs_than_the_model_learned_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        schema_with_inputs_of(DataSchema(MODEL), options, "x.yaml")


def test_standardisation_left_open_is_that_of_the_model() -> None:
    options = {**MODEL, "preprocess": {"method": "auto"}}
    open_features = {"length": 16, "vars": [["p_eta", None], ["p_phi", None], "p_pt"]}
    options["inputs"] = inputs_with(pf_features=open_features)["inputs"]
    schema = schema_with_inputs_of(DataSchema(MODEL), options, "x.yaml")
    assert not schema.needs_standardisation
    assert schema.weaver.preprocess_params["p_pt"]["center"] == 1.5
