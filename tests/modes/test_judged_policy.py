"""The modes evaluate, benchmark and plot on a project with an exit policy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import CostCurve, ExitPolicyFile
from phaze_ee.exits.scores import Margin
from phaze_ee.modes import benchmark, evaluate, plot
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.results.benchmark import BenchmarkResults
from phaze_ee.results.policy import DynamicResults, RealisedFigures
from phaze_ee.workspace import Project
from tests.modes.exit_policies import write_policy
from tests.modes.two_class_project import JETS, make_project, request, save_best_model, write_jets
from tests.plots.undrawn import write_nothing

THRESHOLDS = (0.55, 0.55)
CURVE = [[0.9, 0.9], [0.2, 0.5], [0.1, 0.1], [0.0, 0.0], [0.3, 0.2]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    project = make_project(tmp_path, 'c.background = "is_qcd"')
    save_best_model(project)
    write_policy(project, ThresholdPolicy("confidence", THRESHOLDS, [1.0, 1.5, 2.0]))
    file = ExitPolicyFile.read(project.exit_policy, made_by="calibrate")
    curve = CostCurve(score=Margin(), thresholds=CURVE)
    file.model_copy(update={"curves": [curve]}).write(project.exit_policy)
    return project


def dynamic_of(project: Project) -> DynamicResults:
    return DynamicResults.read(project.dynamic_results, made_by="evaluate")


def test_policy_is_judged_timed_and_drawn(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phaze_ee.modes.plot.write_drawings", write_nothing)
    monkeypatch.setattr("phaze_ee.modes.benchmark._SECONDS", 0.0)
    for mode, module in (("evaluate", evaluate), ("benchmark", benchmark)):
        module.run(Session.open(replace(request(mode), details=True)))

    dynamic = dynamic_of(project)
    assert (dynamic.jets, dynamic.policy.thresholds) == (JETS, list(THRESHOLDS))
    assert sorted(point.thresholds for point in dynamic.curves[0].points) == sorted(CURVE)
    assert sum(map(sum, dynamic.policy.exits_per_class.values())) == JETS
    latency = BenchmarkResults.read(project.benchmark_results, made_by="benchmark").latency
    assert latency is not None
    assert [(entry.batch_size, entry.thresholds) for entry in latency.chosen] == [
        (size, list(THRESHOLDS)) for size in (1, 16, 256)
    ]
    assert [entry.thresholds for entry in latency.curves] == [CURVE[place] for place in (0, 1, 3, 4)]
    printed = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in printed if str(project.root.parents[2]) not in line) <= 80
    assert any("by the policy" in line for line in printed)
    assert any("some policies of the cost-accuracy curves" in line for line in printed)

    plot.run(Session.open(request("plot")))
    drawn = {path.stem for path in (project.plots / "dynamic").glob("*.png")}
    assert drawn == {
        "macs_vs_accuracy", "macs_vs_rejection", "time_vs_accuracy", "time_vs_rejection", "exit_histogram",
        "exit_rates",
    } - ({"exit_rates"} if not dynamic.exit_rates else set())  # fmt: skip


def test_a_policy_for_a_prior_is_judged_and_timed_for_it(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phaze_ee.modes.benchmark._SECONDS", 0.0)
    file = ExitPolicyFile.read(project.exit_policy, made_by="calibrate")
    shares = {"is_qcd": 0.9, "is_top": 0.1}
    figures = RealisedFigures(
        class_shares=shares, macs=1.0, full_macs=2.0, cost_share=0.5, cost_share_error=0.1, accuracy=None,
        accuracy_error=None, full_accuracy=None, exit_shares={},
    )  # fmt: skip
    file.model_copy(update={"realised": {"prior": figures}}).write(project.exit_policy)
    for mode, module in (("evaluate", evaluate), ("benchmark", benchmark)):
        module.run(Session.open(request(mode)))
    dynamic, times = dynamic_of(project), BenchmarkResults.read(project.benchmark_results, made_by="benchmark")
    assert dynamic.prior is not None
    assert dynamic.prior.class_shares == shares
    counts = np.array([dynamic.policy.exits_per_class[name] for name in shares])
    expected = (np.array(list(shares.values()))[:, None] * counts / counts.sum(axis=1, keepdims=True)).sum(axis=0)
    np.testing.assert_allclose(list(dynamic.prior.exit_shares.values()), expected)
    assert times.latency is not None
    assert (times.latency.class_shares, times.policy_accuracy) == (shares, dynamic.policy.accuracy)
    assert "class_prior" in capsys.readouterr().out

    dynamic.model_copy(update={"data_hash": "that of other jets"}).write(project.dynamic_results)
    benchmark.run(Session.open(request("benchmark")))
    assert BenchmarkResults.read(project.benchmark_results, made_by="benchmark").policy_accuracy is None


def test_a_prior_with_a_class_that_has_no_test_jets(project: Project) -> None:
    write_jets(project.root.parents[2] / "val.root", np.zeros(JETS, dtype=int))
    file = ExitPolicyFile.read(project.exit_policy, made_by="calibrate")
    figures = RealisedFigures(
        class_shares={"is_top": 1.0}, macs=1.0, full_macs=2.0, cost_share=0.5, cost_share_error=0.1, accuracy=None,
        accuracy_error=None, full_accuracy=None, exit_shares={},
    )  # fmt: skip
    file.model_copy(update={"realised": {"prior": figures}}).write(project.exit_policy)
    evaluate.run(Session.open(request("evaluate")))
    dynamic = dynamic_of(project)
    assert dynamic.prior is None
    assert "no cost for class_prior: these files hold no jets of is_top" in dynamic.notes


def test_a_policy_of_another_model_is_left_out(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    save_best_model(project, epoch=4)
    evaluate.run(Session.open(request("evaluate")))
    assert project.evaluation_results.is_file()
    assert not project.dynamic_results.exists()
    assert "was calibrated for another model" in capsys.readouterr().out


def test_a_broken_policy_is_an_error(project: Project) -> None:
    project.exit_policy.write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"exit_policy\.json is not a results file"):
        evaluate.run(Session.open(request("evaluate")))


def test_a_policy_judged_on_another_model_is_not_drawn_and_the_rest_is(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("phaze_ee.modes.benchmark._SECONDS", 0.0)
    evaluate.run(Session.open(request("evaluate")))
    save_best_model(project, epoch=4)
    project.exit_policy.unlink()
    kept = project.dynamic_results.read_bytes()
    evaluate.run(Session.open(request("evaluate")))
    benchmark.run(Session.open(request("benchmark")))
    assert project.dynamic_results.read_bytes() == kept
    plot.run(Session.open(request("plot")))
    assert "dynamic_results.json was made with another model" in capsys.readouterr().out
    assert any((project.plots / "performance").glob("*.png"))
    assert not (project.plots / "dynamic").exists()


def test_rivals_must_exist(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phaze_ee.modes.benchmark._SECONDS", 0.0)
    evaluate.run(Session.open(request("evaluate")))
    benchmark.run(Session.open(request("benchmark")))
    with pytest.raises(UsageError, match="no project Tops/smaler"):
        plot.run(Session.open(Request("plot", "Tops", "small", projects=["smaler"])))
