"""The chain from files to predictions with a target beside the classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
import uproot

from phaze_ee.cli import main
from phaze_ee.errors import UsageError
from phaze_ee.modes import export, retrofit, train
from phaze_ee.modes.session import Session
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.policy import DynamicResults
from phaze_ee.results.training import TrainingHistory
from phaze_ee.workspace import Project
from tests.modes.predicting import change_yaml, columns_of
from tests.modes.two_class_project import make_project, request, write_jets

TARGETS = 'targets: {mass: "50 + 10 * mass"}'
JETS = 400
LINES = (
    'c.exit_stages = ["input", 0]', "c.epochs = 10", "c.lr = 0.05", 'c.training_regime = "joint"', "c.seed = 3",
    'c.exit_loss_strategy = "target_flow"', "c.epsilon = 0.2", "c.exit_head = 'linear'", "c.batch_size = 16",
)  # fmt: skip


def with_mass(path: Path, seed: int) -> None:
    """Write jets whose particles show class and mass."""
    write_jets(path, np.arange(JETS) % 2)
    with uproot.open(path) as file:
        columns = file["Events"].arrays(library="np")
    random = np.random.default_rng(seed)
    is_top_N, mass_N = random.integers(0, 2, JETS), random.normal(size=JETS)
    for name, mean_N in (("p_eta", 2 * is_top_N), ("p_phi", 0 * mass_N), ("p_pt", mass_N)):
        columns[name] = random.normal(mean_N[:, None], 0.5, size=(JETS, 12)).astype(np.float32)
    columns |= {"is_qcd": is_top_N == 0, "is_top": is_top_N == 1, "mass": mass_N.astype(np.float32)}
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: (column.dtype, column.shape[1:]) for name, column in columns.items()})
        file["Events"].extend(columns)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    own = f"c.train_files = [{str(tmp_path / 'train.root')!r}]"
    project = make_project(tmp_path, *LINES, own, f"c.test_files = [{str(tmp_path / 'test.root')!r}]")
    change_yaml(tmp_path, "value: [is_qcd, is_top]", f"value: [is_qcd, is_top], {TARGETS}")
    for seed, name in enumerate(("train", "val", "test")):
        with_mass(tmp_path / f"{name}.root", seed)
    return project


def run(mode: str, *flags: str) -> None:
    assert main(["-m", mode, "-p", "Tops", "small", *flags]) == 0


def test_the_chain_measures_what_every_exit_predicts(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for mode in ("convert", "train", "calibrate", "evaluate"):
        run(mode)
    printed = capsys.readouterr().out
    assert f"target mass: {JETS} jets with a spread of" in printed
    history = TrainingHistory.read(project.training_history, made_by="train")
    assert (history.exit_loss, history.full_loss) == ("Cross-entropy + 1·log cosh",) * 2
    evaluated = EvaluationResults.read(project.evaluation_results, made_by="evaluate")
    dynamic = DynamicResults.read(project.dynamic_results, made_by="evaluate")
    assert dynamic.mixture is not None
    for exit_ in (*evaluated.exits.values(), dynamic.mixture):
        assert exit_.targets is not None
        own = exit_.targets["mass"]
        assert own.resolution + 3 * own.resolution_error < 0.7 * own.target_spread
        assert own.response == pytest.approx(1, abs=0.1)
    left = [own.leaving_targets["mass"].jets for own in dynamic.exits.values() if own.leaving_targets]
    assert sum(left) == JETS

    run("predict", "--format", "parquet")
    columns = columns_of(project.predictions / "test.parquet")
    with uproot.open(tmp_path / "test.root") as file:
        target_N = 50 + 10 * file["Events"]["mass"].array(library="np")
    bias = float(np.median(columns["predicted_mass"] - target_N))
    assert bias == pytest.approx(dynamic.mixture.targets["mass"].bias, abs=1e-3)  # type: ignore[index]


def test_a_chain_that_ends_with_an_export_is_refused_before_it_trains(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-m", "chain", "-p", "Tops", "small", "-o", "train_export"]) == 2
    assert "the targets mass (labels.targets) cannot be written to a file yet" in capsys.readouterr().err
    assert not project.models.exists()


def test_an_export_is_refused_with_the_reason(project: Project) -> None:
    train.run(Session.open(request("train")).with_flags(epochs=1))
    with pytest.raises(UsageError, match=r"the targets mass \(labels.targets\) cannot be written to a file yet"):
        export.run(Session.open(request("export")))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("observers: [jet_id]", "observers: [predicted_mass]", "observer predicted_mass has the name of a column"),
        (
            "is_qcd, is_top], ",
            "is_qcd, is_top], names: [predicted_mass, top], ",
            "would share the column predicted_mass",
        ),
    ],
)
def test_names_of_columns_do_not_collide(
    project: Project, tmp_path: Path, before: str, after: str, message: str
) -> None:
    change_yaml(tmp_path, before, after)
    with pytest.raises(UsageError, match=message):
        train.run(Session.open(request("train")))


def test_a_retrofit_keeps_the_full_models_values(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.run(Session.open(request("train")).with_flags(epochs=1))
    best = project.best_model.rename(tmp_path / "first.pt")
    before = torch.load(best, weights_only=True)["state_dict"]
    retrofit.run(Session.open(request("retrofit")).with_flags(init_from=str(best), training_regime="ramp"))
    assert "the full model answers bit for bit" in " ".join(capsys.readouterr().out.split())
    after = torch.load(project.best_model, weights_only=True)["state_dict"]
    same = {name: torch.equal(before[name], after[name]) for name in before}
    assert all(same[name] for name in before if not name.startswith("heads."))
    assert not any(same[name] for name in before if name.startswith("heads."))
    run("evaluate")
    exits = EvaluationResults.read(project.evaluation_results, made_by="evaluate").exits
    assert exits["exit_0"].targets is not None
    assert exits["exit_0"].targets["mass"].resolution < 0.8 * exits["exit_0"].targets["mass"].target_spread
