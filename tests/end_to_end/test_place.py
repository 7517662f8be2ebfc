"""Where exits pay: judged at every stage, written, drawn and recommended, and the model stays as it is."""

import re
from pathlib import Path

import pytest

from phaze_ee.cli import main
from phaze_ee.results.placement import PlacementResults
from phaze_ee.workspace import Project
from tests.end_to_end.command import digest, fails
from tests.modes.two_class_project import make_project, save_best_model

Capture = pytest.CaptureFixture[str]
PLACE = ("-m", "place", "-p", "Tops", "small")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    return tmp_path


def small_project(folder: Path, *lines: str) -> Project:
    (folder / "train").mkdir()
    project = make_project(folder, "c.epochs = 2", "c.seed = 1", *lines)
    # Calibration must not see training jets: the project's own file trains, a copy of it judges.
    (folder / "train" / "train.root").write_bytes((folder / "val.root").read_bytes())
    with project.config.open("a", encoding="utf-8") as file:
        file.write(f"    c.train_files = [{str(folder / 'train' / 'train.root')!r}]\n")
    return project


def test_every_set_of_stages_is_judged(folder: Path, capsys: Capture) -> None:
    project = small_project(folder, "c.exit_head = 'linear_mean_max'", "c.epsilon = 0.3")
    save_best_model(project)
    before = digest(project.models)
    assert main(PLACE) == 0
    printed = capsys.readouterr().out
    results = PlacementResults.read(project.placement_results, made_by="place")
    assert [candidate.stage for candidate in results.candidates] == ["input", 0, 1]
    assert len(results.curves) == 7
    # About half of the 40 validation jets; calibrate tests a policy on others.
    assert results.shaping_jets + results.judging_jets == 19
    assert results.full_model.macs_share == 1.0
    assert results.full_model.exit_stages == []
    costs = [point.macs_share for point in results.pareto]
    assert costs == sorted(costs)
    assert results.recommended.accuracy >= results.full_model.accuracy - 0.3
    line = re.search(r"^    c\.exit_stages = (.*)$", printed, re.MULTILINE)
    assert line is not None
    assert eval(line[1]) == results.recommended.exit_stages
    assert {path.suffix for path in (project.plots / "performance").iterdir()} == {".png", ".pdf"}
    kept = {name: value for name, value in digest(project.models).items() if name in before}
    assert kept == before
    assert not list(project.root.glob(".place*"))


def test_weights_from_elsewhere_do_as_well(folder: Path, capsys: Capture) -> None:
    project = small_project(folder)
    save_best_model(project)
    project.best_model.replace(folder / "weights.pt")
    assert "has no model yet" in fails(capsys, 2, *PLACE)
    with project.config.open("a", encoding="utf-8") as file:
        file.write(f"    c.init_from = {str(folder / 'weights.pt')!r}\n")
    assert main(PLACE) == 0
    assert not project.best_model.exists()


def test_one_kind_of_head_at_all_stages(folder: Path, capsys: Capture) -> None:
    project = small_project(folder, "c.exit_head = ['linear', 'deep_sets']")
    save_best_model(project)
    assert "uses one kind of exit_head" in fails(capsys, 2, *PLACE)
    assert not project.results.exists()


def test_a_fine_tuned_model_gets_exits_at_all_stages(folder: Path) -> None:
    lines = ("c.fresh_layers = ['mod.fc.1']", "c.lr_factors = {'mod.fc.1': 9, 'mod.edge_convs.0': 0, 'heads.1': 3}")
    project = small_project(folder, *lines)
    save_best_model(project)
    assert main(PLACE) == 0
    assert project.placement_results.is_file()
