"""Networks that start from weights of an earlier training get its inputs, or are refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import uproot

from phaze_ee.cli import main
from phaze_ee.data.schema import DataSchema
from phaze_ee.models.checkpoint import load_checkpoint, load_weights
from phaze_ee.modes import train
from phaze_ee.modes.session import Session
from tests.modes.predicting import change_yaml, rewrite
from tests.modes.two_class_project import make_project, request, save_best_model

QUICK = ("c.epochs = 1", "c.zero_epochs = 0", "c.tensorboard = False")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of a training whose standardisation was computed from its files."""
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    project = make_project(tmp_path, *QUICK)
    change_yaml(tmp_path, "{method: manual}", "{method: auto, data_fraction: 1.0}")
    assert main(["-m", "train", "-p", "Tops", "small"]) == 0
    path = Path(shutil.copy(project.best_model, tmp_path / "weights.pt"))
    shutil.rmtree(project.root)
    make = f"c.init_from = {str(path)!r}"
    make_project(tmp_path, *QUICK, make, "c.freeze_backbone = True")
    change_yaml(tmp_path, "{method: manual}", "{method: auto, data_fraction: 1.0}")
    with uproot.open(tmp_path / "val.root") as file:
        values = file["Events"]["p_pt"].array(library="np")
    rewrite(tmp_path / "val.root", tmp_path / "val.root", p_pt=(3 * values + 2).astype(np.float32))
    return path


def parameters(schema: DataSchema) -> dict[str, tuple[float, float]]:
    return {name: (own["center"], own["scale"]) for name, own in schema.weaver.preprocess_params.items()}


def refused(capsys: pytest.CaptureFixture[str], mode: str = "evaluate") -> str:
    assert main(["-m", mode, "-p", "Tops", "small"]) == 2
    return capsys.readouterr().err


def test_the_inputs_are_standardised_as_in_the_training_of_the_weights(weights: Path, tmp_path: Path) -> None:
    trained = DataSchema.from_options(load_checkpoint(weights).data_options)
    own = Session.open(request("evaluate"))
    assert parameters(own.model.schema) == parameters(trained)
    assert parameters(own.schema.resolve(own.files("train_files"))) != parameters(trained)  # that of the new jets
    assert main(["-m", "convert", "-p", "Tops", "small"]) == 0
    assert main(["-m", "train", "-p", "Tops", "small"]) == 0
    assert parameters(Session.open(request("evaluate")).model.schema) == parameters(trained)


def test_inputs_of_other_names_go_by_their_places(weights: Path, tmp_path: Path) -> None:
    change_yaml(tmp_path, "[p_eta, p_phi, p_pt]", "[p_eta, p_phi, pt]")
    change_yaml(tmp_path, "{p_mask:", '{pt: "p_pt * 1", p_mask:')
    trained = parameters(DataSchema.from_options(load_checkpoint(weights).data_options))
    assert parameters(Session.open(request("evaluate")).model.schema)["pt"] == trained["p_pt"]


def test_inputs_that_the_training_did_not_have_are_left(weights: Path, tmp_path: Path) -> None:
    change_yaml(tmp_path, "  pf_mask:", "  pf_vectors: {length: 16, vars: [p_pt, p_eta, p_phi, p_pt]}\n  pf_mask:")
    trained = parameters(DataSchema.from_options(load_checkpoint(weights).data_options))
    assert parameters(Session.open(request("evaluate")).model.schema) == trained


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[is_qcd, is_top]", "[is_top, is_qcd]", "trained with is_top as number 2 of labels, and it is number 1 in"),
        ("[p_eta, p_phi, p_pt]", "[p_eta, p_pt, p_phi]", "trained with p_pt as number 3 of pf_features, and it is"),
    ],
)
def test_another_order_is_refused(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, expected: str
) -> None:
    change_yaml(tmp_path, old, new)
    assert expected in refused(capsys)
    assert expected in refused(capsys, "train")


def test_another_standardisation_of_ones_own_is_said(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_yaml(tmp_path, "p_phi, p_pt]}", "p_phi, [p_pt, 0.5, 2]]}")
    assert main(["-m", "evaluate", "-p", "Tops", "small"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "init_from was trained otherwise: center of p_pt is 0.5 in the data_config, and was " in printed


def test_weights_of_weaver_do_not_tell_their_inputs(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tagger = load_checkpoint(weights).tagger
    torch.save(tagger.backbone.state_dict(), weights)
    assert main(["-m", "evaluate", "-p", "Tops", "small"]) == 0
    assert "weights of weaver do not tell the standardisation" in " ".join(capsys.readouterr().out.split())


def test_exits_at_other_stages_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    project = make_project(tmp_path, "c.exit_stages = [0]", "c.beta_max = 1.0")
    save_best_model(project)
    session = Session.open(request("evaluate"))
    there = session.with_flags(exit_stages=[1])
    for own, taken in ((session, True), (there, False)):
        tagger = own.build(own.schema)
        load_weights(tagger, project.best_model)
        saved = load_checkpoint(project.best_model).tagger
        pairs = zip(tagger.heads.parameters(), saved.heads.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs) == taken
        assert ("has other exits than this network" in caplog.text) != taken


def test_a_frozen_network_needs_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    make_project(tmp_path, *QUICK, "c.freeze_backbone = True")
    assert "freeze_backbone would keep random weights; set c.init_from" in refused(capsys, "train")


def test_a_training_resumes_from_the_weights_that_it_began_with(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session.open(request("train"))
    before = train._contents(session)
    weights.write_bytes(weights.read_bytes() + b" ")
    assert list(before) == ["init_from"]
    assert train._contents(session) != before
