from pathlib import Path

import pytest

from phaze_ee.errors import UsageError
from phaze_ee.modes import plot
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.project import ProjectResults
from phaze_ee.workspace import Project
from tests.plots.examples import benchmark_results, evaluation_results, training_history
from tests.plots.undrawn import write_names, write_nothing

PERFORMANCE = (
    "confusion_matrices", "confusion_matrix", "flops_vs_accuracy", "flops_vs_auc", "params_vs_accuracy",
    "params_vs_auc", "roc",
)  # fmt: skip


def files(names: tuple[str, ...]) -> list[str]:
    return sorted(name + suffix for name in names for suffix in (".pdf", ".png"))


def judged(name: str, accuracies: tuple[float, ...] = (0.6, 0.7)) -> ProjectResults:
    evaluation = evaluation_results(accuracies, ("QCD", "Top"), 2_000, project=name)
    return ProjectResults(name, evaluation, benchmark_results(tuple(evaluation.exits), project=name))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    project = Project("W", "mine")
    project.config.parent.mkdir(parents=True)
    project.config.touch()
    return project


def run(*, details: bool = False) -> None:
    plot.run(Session.open(Request("plot", workspace="W", project="mine", details=details)))


def test_all_figures_are_written_and_named(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    results = judged("mine")
    results.evaluation.write(project.evaluation_results)
    results.benchmark.write(project.benchmark_results)
    training_history(epochs=4).write(project.training_history)
    run(details=True)
    assert sorted(path.name for path in (project.plots / "performance").iterdir()) == files(PERFORMANCE)
    assert sorted(path.name for path in (project.plots / "loss").iterdir()) == files(("accuracy_curves", "loss_curves"))
    output = capsys.readouterr().out
    assert str(project.plots / "performance" / "roc.png") in output
    assert "training_history.json" not in output


def test_what_cannot_be_drawn_is_said(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phaze_ee.modes.plot.write_drawings", write_nothing)
    results = judged("mine")
    exits = {
        name: exit_.model_copy(update={"roc_auc": None, "roc_curves": []})
        for name, exit_ in results.evaluation.exits.items()
    }
    results.evaluation.model_copy(update={"exits": exits}).write(project.evaluation_results)
    results.benchmark.write(project.benchmark_results)
    run()
    drawn = tuple(name for name in PERFORMANCE if name != "roc" and not name.endswith("auc"))
    assert sorted(path.name for path in (project.plots / "performance").iterdir()) == files(drawn)
    assert not (project.plots / "loss").exists()
    output = capsys.readouterr().out
    assert "No flops_vs_auc" in output
    assert "No params_vs_auc" in output
    assert "No ROC curves" in output
    assert "No training curves" in output


def test_letters_that_figures_cannot_show_are_said_once(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phaze_ee.modes.plot.write_drawings", write_names)
    results = judged("mine")
    changed = results.evaluation.model_dump_json().replace("label_Top", "Top 粒子")
    EvaluationResults.model_validate_json(changed).write(project.evaluation_results)
    results.benchmark.write(project.benchmark_results)
    run()
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("Note: the fonts of figures lack 粒, 子; '?' stands for them in names of classes") == 1


def test_missing_results_name_the_mode_to_run(project: Project) -> None:
    chain = "evaluation_results.json yet; run phaze_ee -m chain -p W mine -o "
    with pytest.raises(UsageError, match=f"{chain}train_evaluate_benchmark \\(with c.init_from"):
        run()
    project.models.mkdir(parents=True)
    project.best_model.touch()
    with pytest.raises(UsageError, match=f"{chain}evaluate_benchmark$"):
        run()
    project.best_model.unlink()
    judged("mine").evaluation.write(project.evaluation_results)
    with pytest.raises(UsageError, match=r"benchmark_results.json yet; run phaze_ee -m benchmark -p W mine"):
        run()
    assert not project.plots.exists()


@pytest.mark.parametrize("change", [{"model_hash": "other"}, {"exits": benchmark_results().exits}])
def test_results_of_different_models_are_refused(project: Project, change: dict[str, object]) -> None:
    results = judged("mine")
    results.evaluation.write(project.evaluation_results)
    results.benchmark.model_copy(update=change).write(project.benchmark_results)
    with pytest.raises(UsageError, match="different models"):
        run()
    assert not project.plots.exists()
