"""No figure of two models: retrain, recalibrate and benchmark again, in any order, and look at what plot draws."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phaze_ee.errors import UsageError
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.modes import benchmark, calibrate, compare, evaluate, plot, report, show
from phaze_ee.modes.moved_policy import write_moved
from phaze_ee.modes.policies import activate, read_policy
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.results.policy import DynamicResults
from phaze_ee.workspace import Project
from tests.modes.predicting import notes
from tests.modes.two_class_project import make_project, request, save_best_model, write_jets
from tests.plots.examples import training_history
from tests.plots.undrawn import write_names

Capture = pytest.CaptureFixture[str]
PROJECT = Project("Tops", "small")
TIMED = {"time_vs_accuracy", "time_vs_rejection"}
POLICY = TIMED | {"macs_vs_accuracy", "macs_vs_rejection", "exit_histogram"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with a project whose results all belong together."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHAZE_EE_WORKSPACES", str(folder / "workspaces"))
        patch.setattr("phaze_ee.modes.benchmark._SECONDS", 0.0)
        patch.setattr("phaze_ee.modes.plot.write_drawings", write_names)
        for name, jets in (("calibration", 200), ("test", 80), ("other", 60)):
            write_jets(folder / f"{name}.root", np.arange(jets) % 2)
        files = (f"c.{name}_files = [{str(folder / name)!r} + '.root']" for name in ("calibration", "test"))
        make_project(folder, 'c.background = "is_qcd"', "c.epsilon = 0.45", 'c.exit_target = "agreement"', *files)
        train(seed=1)
        calibrate.run(Session.open(request("calibrate")))
        evaluate.run(Session.open(replace(request("evaluate"), ood=[str(folder / "other.root")])))
        run("benchmark", "plot")
        yield folder


@pytest.fixture(autouse=True)
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made / "workspaces", tmp_path / "workspaces")
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    monkeypatch.setattr("phaze_ee.modes.benchmark._SECONDS", 0.0)
    monkeypatch.setattr("phaze_ee.modes.plot.write_drawings", write_names)
    return made


def train(seed: int) -> None:
    """Write what a training writes: a model, and a history."""
    save_best_model(PROJECT, epoch=seed, seed=seed)
    history = training_history(epochs=4 + seed)
    history.model_copy(update={"exit_names": ["exit_0", "exit_1", "exit_2", "full_model"]}).write(
        PROJECT.training_history
    )


def run(*modes: str) -> None:
    modules = {"calibrate": calibrate, "evaluate": evaluate, "benchmark": benchmark, "plot": plot}
    for mode in modes:
        modules[mode].run(Session.open(request(mode)))


def recalibrate(name: str | None = None) -> None:
    calibrate.run(Session.open(replace(request("calibrate"), name=name, flags={"epsilon": 0.3})))


def move(step: int) -> ExitPolicyFile:
    """Move policy default, as mode monitor does, and make the moved one active."""
    kept = read_policy(PROJECT, "default")
    assert kept is not None
    write_moved(PROJECT, kept, step)
    activate(PROJECT, "default.adapted")
    return ExitPolicyFile.read(PROJECT.exit_policy, made_by="monitor")


def drawn(part: str) -> set[str]:
    return {path.stem for path in (PROJECT.plots / part).glob("*.png")}


def set_aside(part: str) -> set[str]:
    return {path.stem for path in (PROJECT.plots / "previous" / part).glob("*.png")}


def test_all_is_drawn_while_it_belongs_together(capsys: Capture) -> None:
    run("plot")
    assert drawn("dynamic") >= POLICY
    assert drawn("ood") == {"auroc", "scores"}
    assert drawn("loss") == {"loss_curves", "accuracy_curves"}
    assert not (PROJECT.plots / "previous").exists()
    assert "Left out" not in notes(capsys.readouterr().out)


def test_retrained_alone(capsys: Capture) -> None:
    train(seed=2)
    with pytest.raises(UsageError, match=r"evaluation_results.json is of another model than best_model\.pt"):
        run("plot")


def test_retrained_and_evaluated() -> None:
    train(seed=2)
    run("evaluate")
    with pytest.raises(UsageError, match="were made with different models"):
        run("plot")


def test_retrained_and_benchmarked() -> None:
    train(seed=2)
    run("benchmark")
    with pytest.raises(UsageError, match=r"evaluation_results.json is of another model than best_model\.pt"):
        run("plot")


def test_retrained_evaluated_and_benchmarked_leaves_the_policy_out(capsys: Capture) -> None:
    train(seed=2)
    run("evaluate", "benchmark", "plot")
    printed = notes(capsys.readouterr().out)
    assert "Left out: the exit policy, for dynamic_results.json was made with another model" in printed
    assert "Left out: out-of-distribution jets, for ood_results.json was made with another model" in printed
    assert (drawn("dynamic"), drawn("ood")) == (set(), set())
    assert set_aside("dynamic") >= POLICY
    assert set_aside("ood") == {"auroc", "scores"}
    assert drawn("loss") == {"loss_curves", "accuracy_curves"}
    assert drawn("performance") >= {"roc", "flops_vs_accuracy"}


def test_another_training_that_did_not_replace_the_model(capsys: Capture) -> None:
    training_history(epochs=2).write(PROJECT.training_history)
    run("plot")
    assert "Left out: the training curves, for training_history.json is of another training" in notes(
        capsys.readouterr().out
    )
    assert (drawn("loss"), set_aside("loss")) == (set(), {"loss_curves", "accuracy_curves"})
    assert drawn("dynamic") >= POLICY


@pytest.mark.parametrize("name", [None, "tight"])
def test_recalibrated_alone(capsys: Capture, name: str | None) -> None:
    recalibrate(name)
    run("plot")
    printed = notes(capsys.readouterr().out)
    assert "Left out: the times of the policy, for benchmark_results.json is of another policy" in printed
    assert "Left out: the exit policy, for dynamic_results.json is of another policy" in printed
    assert "Left out: where out-of-distribution jets leave, for ood_results.json is of another policy" in printed
    assert drawn("dynamic") == set()
    assert drawn("ood") == {"auroc", "scores"}
    if name is not None:  # the earlier policy is still there
        plot.run(Session.open(replace(request("plot"), policy="default")))
        assert drawn("dynamic") >= POLICY


def test_recalibrated_and_evaluated_has_no_times_of_the_earlier_policy(capsys: Capture) -> None:
    recalibrate()
    run("evaluate", "plot")
    assert "Left out: the times of the policy" in notes(capsys.readouterr().out)
    assert drawn("dynamic") >= POLICY - TIMED
    assert not drawn("dynamic") & TIMED
    run("benchmark", "plot")
    assert drawn("dynamic") >= POLICY


def test_recalibrated_and_benchmarked_has_no_earlier_policy(capsys: Capture) -> None:
    recalibrate()
    run("benchmark", "plot")
    printed = notes(capsys.readouterr().out)
    assert "Left out: the exit policy" in printed
    assert "the times" not in printed
    assert drawn("dynamic") == set()


def test_benchmarked_on_other_jets(capsys: Capture, folder: Path) -> None:
    config = PROJECT.config.read_text(encoding="utf-8")
    PROJECT.config.write_text(config.replace("/test", "/other"), encoding="utf-8")
    run("benchmark", "plot")
    assert "Left out: the times, for benchmark_results.json is of other jets" in notes(capsys.readouterr().out)
    assert not drawn("dynamic") & TIMED
    run("evaluate", "plot")
    assert "Left out: out-of-distribution jets, for ood_results.json was made with other jets" in notes(
        capsys.readouterr().out
    )
    assert drawn("dynamic") >= POLICY


def test_a_policy_that_is_gone(capsys: Capture) -> None:
    PROJECT.exit_policy.unlink()
    run("plot")
    assert "is of a policy, and the project has no active one" in notes(capsys.readouterr().out)
    assert drawn("dynamic") == set()


def test_results_without_hashes_are_told_by_their_thresholds(capsys: Capture) -> None:
    for path in (PROJECT.dynamic_results, PROJECT.benchmark_results, PROJECT.evaluation_results, PROJECT.ood_results):
        content = json.loads(path.read_text(encoding="utf-8"))
        for name in ("data_hash", "history_hash", "policy_hash"):
            content.pop(name)
        path.write_text(json.dumps(content), encoding="utf-8")
    run("plot")
    assert drawn("dynamic") >= POLICY
    assert "Left out" not in notes(capsys.readouterr().out)
    recalibrate()
    run("plot")
    assert drawn("dynamic") == set()


def test_compare_leaves_out_what_is_stale(capsys: Capture) -> None:
    shutil.copytree(PROJECT.root, PROJECT.root.parent / "second")
    second = Project("Tops", "second")
    (second.root / "config" / "small_config.py").rename(second.config)
    train(seed=2)
    compare.run(Session.open(Request("compare", "Tops", "all")))
    assert "Left out: project Tops/small: evaluation_results.json is of another model" in notes(capsys.readouterr().out)
    assert (PROJECT.comparisons / "comparison_policies.png").is_file()
    with pytest.raises(UsageError, match="is of another model"):
        compare.run(Session.open(Request("compare", "Tops", "all", projects=["small", "second"])))


def test_results_of_the_policy_before_its_move_are_left_out(capsys: Capture) -> None:
    moved = move(1)
    run("plot")
    report.run(Session.open(request("report")))
    printed = notes(capsys.readouterr().out)
    for what in ("the times of the policy", "the exit policy", "where out-of-distribution jets leave"):
        assert printed.count(f"Left out: {what}, for") == 2
    assert drawn("dynamic") == set()
    show.run(Session.open(request("show")))
    printed = notes(capsys.readouterr().out)
    assert "default.adapted: 1 step safer than default" in printed
    assert f"for jets drawn as those of the calibration; {moved.move}" in printed
    assert str(moved.move) in PROJECT.report.read_text(encoding="utf-8")


def test_figures_of_a_moved_policy_are_its_own_and_say_so(capsys: Capture) -> None:
    moved = move(1)
    run("evaluate", "benchmark", "plot")
    printed = notes(capsys.readouterr().out)
    assert printed.count(f"Note: the policy has {moved.move}") == 2
    assert drawn("dynamic") >= POLICY
    judged = DynamicResults.read(PROJECT.dynamic_results, made_by="evaluate")
    before = ExitPolicyFile.read(PROJECT.policy("default"), made_by="calibrate")
    assert judged.policy.thresholds == moved.thresholds != before.thresholds
    compare.run(Session.open(Request("compare", "Tops", "all")))
    assert f"small: the policy has {moved.move}" in notes(capsys.readouterr().out)
