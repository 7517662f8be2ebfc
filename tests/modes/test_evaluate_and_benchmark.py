from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phaze_ee.benchmark.cost import ExitCost
from phaze_ee.errors import CheckpointError, DataError, UsageError
from phaze_ee.modes import benchmark, evaluate
from phaze_ee.modes.registry import MODES
from phaze_ee.modes.session import Session
from phaze_ee.results.benchmark import BenchmarkResults
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.workspace import Project
from tests.modes.two_class_project import JETS, make_project, request, save_best_model, write_jets

EXITS = ["exit_0", "exit_1", "full_model"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    return tmp_path


def evaluation_of(project: Project) -> EvaluationResults:
    return EvaluationResults.read(project.evaluation_results, made_by="evaluate")


def benchmark_of(project: Project) -> BenchmarkResults:
    return BenchmarkResults.read(project.benchmark_results, made_by="benchmark")


def test_both_modes_agree_on_a_two_class_project(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(folder, 'c.background = "is_qcd"')
    save_best_model(project)
    evaluate.run(Session.open(request("evaluate")))
    benchmark.run(Session.open(request("benchmark")))

    evaluation, costs = evaluation_of(project), benchmark_of(project)
    assert list(evaluation.exits) == list(costs.exits) == EXITS
    assert evaluation.jets_per_class == {"is_qcd": JETS // 2, "is_top": JETS // 2}
    assert evaluation.files == [str(folder / "val.root")]
    assert any("test_files is empty" in note for note in evaluation.notes)
    for name in EXITS:
        exit_, cost = evaluation.exits[name], costs.exits[name]
        assert (cost.accuracy, cost.roc_auc) == (exit_.accuracy, exit_.roc_auc)
        assert cost.accuracy is not None
        assert [rejection.signal for rejection in exit_.rejections] == ["is_top"]
        assert cost.flops_str == f"{cost.flops / 1e6:.2f} MMac"
        assert cost.params_str == f"{cost.params / 1e6:.2f}M"
    assert costs.exits["full_model"].share_of_full == 1
    assert (costs.particles, costs.input_channels) == (16, 3)

    printed = capsys.readouterr().out
    tables = [line for line in printed.splitlines() if str(folder) not in line]
    assert max(map(len, tables)) <= 80
    assert "best_model.pt (epoch 4)" in printed
    assert "is_qcd rej. at" in printed


@pytest.mark.parametrize(("mode", "own"), [("train", {}), ("retrofit", {"freeze_backbone": True})])
def test_options_of_the_training_that_have_changed_are_noted(folder: Path, mode: str, own: dict[str, Any]) -> None:
    """Those that retrofit sets itself have not changed."""
    project = make_project(folder)
    save_best_model(project, with_options=True, **own)
    evaluate.run(Session.open(request("evaluate")))
    assert [note for note in evaluation_of(project).notes if "config.py" in note] == []
    lines = project.config.read_text()
    project.config.write_text(f"{lines}    c.lr, c.zero_epochs, c.batch_size = 0.5, 1, 3\n")
    evaluate.run(Session.open(request("evaluate")))
    note = f"{project.config.name} has changed since the training (zero_epochs, lr): {mode} again to use it"
    assert note in evaluation_of(project).notes


def test_inputs_that_have_changed_or_are_gone_are_noted(folder: Path) -> None:
    project, path = make_project(folder), folder / "two_classes.yaml"
    save_best_model(project)
    evaluate.run(Session.open(request("evaluate")))
    assert [note for note in evaluation_of(project).notes if "data_config" in note] == []
    before = path.read_text()
    path.write_text(before.replace("observers: [jet_id]", "selection: jet_id > 9"))
    evaluate.run(Session.open(request("evaluate")))
    assert evaluation_of(project).jets == JETS
    assert (
        f"data_config {path} has changed since the training (selection), and the model's own is used: train again to "
        "use it, or choose jets with --extra-selection-test"
    ) in evaluation_of(project).notes
    path.unlink()
    project.resume_point.touch()
    evaluate.run(Session.open(request("evaluate")))
    assert f"data_config {path} does not exist here; the model's own is used" in evaluation_of(project).notes
    assert (
        "the training of this model has not ended: it is the best of the epochs so far" in evaluation_of(project).notes
    )


def test_observers_may_change_after_the_training(folder: Path) -> None:
    project, path = make_project(folder), folder / "two_classes.yaml"
    save_best_model(project)
    before = path.read_text()
    path.write_text(before.replace("observers: [jet_id]", "observers: [absent]"))
    with pytest.raises(DataError, match=r"no branch absent.*leave it out of the observers \(no training needed\)"):
        evaluate.run(Session.open(request("evaluate")))
    halves = before.replace("new_variables: {", "new_variables: {half: jet_id / 2, ")
    path.write_text(halves.replace("observers: [jet_id]", "observers: [half]"))
    session = Session.open(request("evaluate"))
    evaluate.run(session)
    assert [note for note in evaluation_of(project).notes if "data_config" in note] == []
    assert list(session.model.schema.weaver.z_variables) == ["half"]


def test_test_files_are_taken_where_there_are_any(folder: Path) -> None:
    project = make_project(folder, f"c.test_files = [{str(folder / 'test.root')!r}]")
    write_jets(folder / "test.root", np.zeros(5, dtype=int))
    save_best_model(project)
    evaluate.run(Session.open(request("evaluate")))
    evaluation = evaluation_of(project)
    assert (evaluation.jets, evaluation.files) == (5, [str(folder / "test.root")])
    assert evaluation.exits["full_model"].roc_auc is None
    assert any("no jets of is_top" in note for note in evaluation.notes)
    assert any("set c.background" in note for note in evaluation.notes)
    assert not any("test_files" in note for note in evaluation.notes)


def test_benchmark_needs_neither_jets_nor_training(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(folder)
    (folder / "val.root").unlink()
    benchmark.run(Session.open(request("benchmark")))
    costs = benchmark_of(project)
    assert costs.model_hash is None
    assert "not trained yet" in costs.model
    assert all(exit_.accuracy is None for exit_ in costs.exits.values())
    assert "run mode 'evaluate'" in capsys.readouterr().out


def test_benchmark_times_every_exit_on_the_jets_there_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(folder)
    benchmark.run(Session.open(replace(request("benchmark"), details=True)))
    latency = benchmark_of(project).latency
    assert latency is not None
    assert latency.mean_multiplicity == 12
    assert {(entry.name, entry.batch_size) for entry in latency.entries} == {
        (name, size) for name in ("exit_0", "exit_1", "full_model") for size in (1, 16, 256)
    }
    table = capsys.readouterr().out
    assert "12 particles on average" in table
    assert "p99 (ms)" in table


def test_benchmark_without_jets_says_why_there_are_no_times(folder: Path) -> None:
    project = make_project(folder)
    (folder / "val.root").unlink()
    benchmark.run(Session.open(request("benchmark")))
    results = benchmark_of(project)
    assert results.latency is None
    assert any("no times were measured" in note and "val.root" in note for note in results.notes)


def test_benchmark_says_which_exit_is_for_comparison_only(folder: Path) -> None:
    project = make_project(folder)
    benchmark.run(Session.open(request("benchmark")))
    shares = {name: exit_.share_of_full for name, exit_ in benchmark_of(project).exits.items()}
    notes = [note for note in benchmark_of(project).notes if "for comparison only" in note]
    assert [note.split(" saves")[0] for note in notes] == ["exit 1"]
    assert f"{1 - shares['exit_1']:.2%} of the full model's MACs for one jet padded to 16 particles:" in notes[0]


def test_an_exit_that_costs_more_than_the_full_model_saves_nothing() -> None:
    costs = [ExitCost("exit_0", 150, 150, 1, 90), ExitCost("full_model", 100, 100, 1, None)]
    note = (
        "exit 0 takes 50.0% more MACs than the full model for one jet padded to 128 particles, with the heads of "
        "earlier exits, and is for comparison only."
    )
    assert benchmark.cost_notes(costs, 128)[-1] == note


def test_accuracy_of_another_model_is_left_out(folder: Path) -> None:
    project = make_project(folder)
    save_best_model(project)
    evaluate.run(Session.open(request("evaluate")))
    save_best_model(project, epoch=4)
    benchmark.run(Session.open(request("benchmark")))
    costs = benchmark_of(project)
    assert all(exit_.accuracy is None for exit_ in costs.exits.values())
    assert any("another model" in note for note in costs.notes)


def test_a_failed_evaluation_keeps_the_earlier_results(folder: Path) -> None:
    project = make_project(folder)
    save_best_model(project)
    evaluate.run(Session.open(request("evaluate")))
    before = project.evaluation_results.read_bytes()
    write_jets(folder / "val.root", np.full(4, 7))  # neither QCD nor top
    with pytest.raises(DataError, match=r"val\.root"):
        evaluate.run(Session.open(request("evaluate")))
    assert project.evaluation_results.read_bytes() == before


def test_a_checkpoint_whose_data_config_does_not_fit_its_network_is_refused(folder: Path) -> None:
    project = make_project(folder)
    save_best_model(project)
    content = torch.load(project.best_model, weights_only=True)
    content["data_options"]["inputs"]["pf_features"]["vars"].pop()
    torch.save(content, project.best_model)
    with pytest.raises(CheckpointError, match="its network reads 3 features and has 2 classes, its data config has 2"):
        evaluate.run(Session.open(request("evaluate")))


def test_evaluation_without_a_model_is_refused(folder: Path) -> None:
    make_project(folder)
    with pytest.raises(CheckpointError, match="no model yet"):
        evaluate.run(Session.open(request("evaluate")))


@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_a_background_that_is_no_class_is_refused_before_the_long_part(folder: Path, mode: str) -> None:
    make_project(folder, 'c.background = "is_qdc"')
    with pytest.raises(UsageError, match=r"background 'is_qdc'.*did you mean 'is_qcd'"):
        MODES[mode].run(Session.open(request(mode)))
