from dataclasses import replace
from pathlib import Path

import pytest

from phaze_ee.errors import UsageError
from phaze_ee.modes import report
from phaze_ee.modes.registry import chained_modes
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.results.project import ProjectResults
from phaze_ee.workspace import Project
from tests.plots.examples import benchmark_results, evaluation_results, training_history

MINE = Request("report", workspace="W", project="mine")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    return configured("mine")


def configured(name: str) -> Project:
    project = Project("W", name)
    project.config.parent.mkdir(parents=True)
    project.config.write_text("c.background = 'QCD'")
    return project


def judge(project: Project, classes: tuple[str, ...] = ("QCD", "Top")) -> None:
    evaluation = evaluation_results((0.6, 0.7), classes, 2_000, project=project.name)
    results = ProjectResults(project.name, evaluation, benchmark_results(tuple(evaluation.exits), project=project.name))
    results.evaluation.write(project.evaluation_results)
    results.benchmark.write(project.benchmark_results)


def run(request: Request = MINE) -> None:
    report.run(Session.open(request))


def test_a_project_without_results_gets_a_page_that_says_what_to_run(project: Project) -> None:
    run()
    page = project.report.read_text(encoding="utf-8")
    assert "has no evaluation_results.json yet; run phaze_ee -m chain -p W mine -o train_evaluate_benchmark" in page
    assert "<code>phaze_ee -m calibrate -p W mine</code>" in page


def test_a_page_of_results(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    judge(project)
    training_history(epochs=4).write(project.training_history)
    run()
    page = project.report.read_text(encoding="utf-8")
    assert "70.0" in page
    assert "c.background = &#x27;QCD&#x27;" in page
    assert 'data-of="training-0-data"' in page
    assert capsys.readouterr().out.strip() == f"Written: {project.report}"


def test_results_of_another_model_are_left_out_and_named(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    judge(project)
    project.best_model.parent.mkdir(parents=True)
    project.best_model.write_bytes(b"trained again")
    run()
    page = project.report.read_text(encoding="utf-8")
    assert "evaluation_results.json is of another model than best_model.pt" in page
    assert "70.0" not in page
    assert "of another model" in capsys.readouterr().out


def test_the_model_card_is_of_this_model_or_left_out(project: Project) -> None:
    project.best_model.parent.mkdir(parents=True)
    project.best_model.write_bytes(b"weights")
    project.export.mkdir(parents=True)
    card = project.export / "card.md"
    card.write_text(f"# Net\n\n- weights: SHA-256 {project.model_hash}\n\n<b>bold</b>")
    run()
    page = project.report.read_text(encoding="utf-8")
    assert "<h4>Net</h4>" in page
    assert "&lt;b&gt;bold" in page
    card.write_text("# Net\n\n- weights: SHA-256 0123")
    run()
    page = project.report.read_text(encoding="utf-8")
    assert "<h4>Net</h4>" not in page
    assert "Left out: the model card" in page


def test_a_comparison_is_beside_those_of_mode_compare(project: Project) -> None:
    judge(project)
    judge(configured("other"))
    run(replace(MINE, projects=["other"]))
    page = (project.comparisons / "report.html").read_text(encoding="utf-8")
    assert "W/mine" in page
    assert "W/other" in page
    assert "Accuracy minus that of mine, in percentage points" in page
    assert "±, error for the number of test jets" in page
    assert not project.report.exists()


def test_what_cannot_be_compared_is_refused(project: Project) -> None:
    judge(project)
    judge(configured("other"), ("QCD", "W", "Z"))
    with pytest.raises(UsageError, match=r"different classes \(.* alone\)"):
        run(replace(MINE, projects=["other"]))
    with pytest.raises(UsageError, match="a comparison shows active policies"):
        run(replace(MINE, projects=["other"], policy="tight"))
    with pytest.raises(UsageError, match="has no policy 'tight'"):
        run(replace(MINE, policy="tight"))


def test_report_can_be_chained() -> None:
    assert [mode.name for mode in chained_modes("plot_report")] == ["plot", "report"]
