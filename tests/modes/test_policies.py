"""The policies of a project: names, the active one, failed calibrations, and what modes show and list say."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import phaze_ee
from phaze_ee.cli import main
from phaze_ee.errors import RunError, UsageError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.modes import benchmark, calibrate, evaluate, predict
from phaze_ee.modes.policies import active_name, failed_names, policy_names
from phaze_ee.modes.session import Session
from phaze_ee.results.benchmark import BenchmarkResults
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.policy import DynamicResults
from phaze_ee.workspace import Project, file_hash
from tests.modes.exit_policies import write_policy
from tests.modes.two_class_project import make_project, request, save_best_model, write_jets
from tests.plots.undrawn import write_nothing

Capture = pytest.CaptureFixture[str]
NAMED = ("-p", "Tops", "small")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    write_jets(tmp_path / "calibration.root", np.arange(300) % 2)
    files = f"c.calibration_files = [{str(tmp_path / 'calibration.root')!r}]"
    project = make_project(tmp_path, 'c.background = "is_qcd"', files, 'c.exit_target = "agreement"', "c.seed = 1")
    save_best_model(project)
    return project


def run(name: str | None = None, **flags: object) -> None:
    calibrate.run(Session.open(replace(request("calibrate"), name=name, flags=flags)))


def content(project: Project, name: str) -> bytes:
    return project.policy(name).read_bytes()


def test_policies_have_names_and_the_last_is_active(project: Project) -> None:
    run(epsilon=0.3)
    run("loose", epsilon=0.4)
    assert policy_names(project) == ["default", "loose"]
    assert active_name(project) == "loose"
    assert project.exit_policy.read_bytes() == content(project, "loose") != content(project, "default")
    kept = content(project, "loose")
    # what a killed calibration leaves
    project.policy("loose").with_name(".loose.host.1.tmp0123abcd.json").write_text("{")
    assert policy_names(project) == ["default", "loose"]
    calibrate.run(Session.open(replace(request("calibrate"), activate="default")))
    assert active_name(project) == "default"
    assert content(project, "loose") == kept


def test_only_a_policy_of_this_model_becomes_active(project: Project) -> None:
    run(epsilon=0.3)
    before = project.exit_policy.read_bytes()
    foreign = json.loads(content(project, "default")) | {"model_hash": "of another model"}
    project.policy("foreign").write_text(json.dumps(foreign))
    with pytest.raises(UsageError, match=r"foreign\.json was calibrated for another model.*--name foreign"):
        calibrate.run(Session.open(replace(request("calibrate"), activate="foreign")))
    with pytest.raises(UsageError, match="--activate takes a policy as it is, and exit_target is given too"):
        calibrate.run(
            Session.open(replace(request("calibrate"), activate="default", flags={"exit_target": "agreement"}))
        )
    assert project.exit_policy.read_bytes() == before


def test_a_policy_without_a_name_is_kept_when_another_becomes_active(project: Project) -> None:
    write_policy(project, ThresholdPolicy("confidence", [0.6, 0.6]))
    before = project.exit_policy.read_bytes()
    run(epsilon=0.3)
    assert policy_names(project) == ["default", "earlier"]
    assert content(project, "earlier") == before


def test_a_failed_calibration_replaces_no_good_policy(project: Project) -> None:
    run(epsilon=0.4)
    before = content(project, "default")
    with pytest.raises(RunError, match=r"no policy keeps the target budget: .*default\.failed\.json"):
        run(exit_target="budget", cost_budget=1e-6)
    assert (project.exit_policy.read_bytes(), content(project, "default")) == (before, before)
    assert failed_names(project) == ["default"]
    assert policy_names(project) == ["default"]
    failed = ExitPolicyFile.read(project.policy("default.failed"), made_by="calibrate")
    assert not failed.lets_jets_leave
    assert main(["-m", "calibrate", *NAMED, "--name", "two", "--target", "budget", "--budget", "1e-6"]) == 1
    with pytest.raises(UsageError, match=r"has no policy 'two': its calibration failed \(it has: default\); calibrate"):
        calibrate.run(Session.open(replace(request("calibrate"), activate="two")))


def test_a_chain_goes_on_without_a_policy_and_fails_at_its_end(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("phaze_ee.modes.benchmark._SECONDS", 0.0)
    impossible = ("--target", "budget", "--budget", "0.000001")
    assert main(["-m", "chain", *NAMED, "-o", "calibrate_evaluate_benchmark", *impossible]) == 1
    output = capsys.readouterr()
    assert "no policy keeps the target budget" in output.err
    assert "Policy default: the policy is the full model: " in output.out
    assert "The policy is the full model: no jet leaves early, so nothing is saved" in output.out
    assert DynamicResults.read(project.dynamic_results, "evaluate").policy.macs_share == pytest.approx(1.0)


def test_a_policy_of_an_earlier_model_protects_nothing(project: Project) -> None:
    run(epsilon=0.4)
    save_best_model(project, epoch=5)
    with pytest.raises(RunError, match="the active policy is now the full model"):
        run(exit_target="budget", cost_budget=1e-6)
    assert failed_names(project) == []


def test_too_few_jets_are_told_in_terms_of_the_files(project: Project, capsys: Capture, tmp_path: Path) -> None:
    write_jets(tmp_path / "calibration.root", np.arange(30) % 2)
    with pytest.raises(RunError, match=r"it takes [\d,]+ such jets, about ([\d,]+) more calibration jets"):
        run(epsilon=0.2)
    assert "more jets like these in c.calibration_files" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "problem"), [("../x", "is not usable"), ("a.failed", "marks failed calibrations")])
def test_names_that_no_policy_can_have(project: Project, name: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        run(name, epsilon=0.4)


def test_modes_take_a_policy_by_its_name(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("phaze_ee.modes.benchmark._SECONDS", 0.0)
    run("tight", epsilon=0.2)
    run("loose", epsilon=0.45)
    tight = file_hash(project.policy("tight"))
    for mode, module in (("evaluate", evaluate), ("benchmark", benchmark)):
        module.run(Session.open(replace(request(mode), policy="tight")))
    predict.run(Session.open(replace(request("predict"), policy="tight", output=tmp_path / "out")))
    assert DynamicResults.read(project.dynamic_results, "evaluate").policy_hash == tight
    assert BenchmarkResults.read(project.benchmark_results, "benchmark").policy_hash == tight
    with pytest.raises(UsageError, match=r"has no policy 'tihgt' \(it has: loose, tight\)"):
        evaluate.run(Session.open(replace(request("evaluate"), policy="tihgt")))
    save_best_model(project, epoch=5)
    with pytest.raises(UsageError, match=r"tight\.json was calibrated for another model"):
        evaluate.run(Session.open(replace(request("evaluate"), policy="tight")))


def test_a_policy_says_what_it_promises(project: Project) -> None:
    run("tight", epsilon=0.3)
    policy = phaze_ee.load_policy("Tops/small", name="tight")
    assert repr(policy).startswith("<ThresholdPolicy confidence; thresholds ")
    assert "at most 0.3 of the jets get another class" in repr(policy)
    assert "no promise" in repr(policy.capped(0))
    assert "no promise" in repr(phaze_ee.ThresholdPolicy("margin", [0.5, float("inf")]))


def test_show_tells_the_state_and_the_next_command(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    project.best_model.rename(project.models / "away.pt")
    assert main(["-m", "show", *NAMED]) == 0
    assert "Next:     phaze_ee -m train -p Tops small" in capsys.readouterr().out
    (project.models / "away.pt").rename(project.best_model)
    run("tight", epsilon=0.3)
    with pytest.raises(RunError):
        run("tight", exit_target="budget", cost_budget=1e-6)
    evaluate.run(Session.open(request("evaluate")))
    capsys.readouterr()
    assert main(["-m", "show", *NAMED]) == 0
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines() if line.strip().startswith("tight")]
    assert [(row[1], row[2], row[-1]) for row in rows] == [
        ("agreement", "0.3", "active"),
        ("budget", "1e-06", "failed"),
    ]
    assert "Active policy: at most 0.3 of the jets get another class" in shown
    assert "no benchmark_results.json yet" in shown
    project.policy("broken").write_text("")
    assert main(["-m", "show", *NAMED]) == 0
    assert ["broken", "-", "-", "-", "-", "damaged"] in [row.split() for row in capsys.readouterr().out.splitlines()]
    project.policy("broken").unlink()
    accuracy = EvaluationResults.read(project.evaluation_results, "evaluate").exits["full_model"].accuracy
    assert f"Results:  accuracy {accuracy:.4f}" in shown
    assert "; with the policy " in " ".join(shown.split())
    assert "Next:     phaze_ee -m chain -p Tops small -o benchmark_plot" in shown
    assert max(len(line) for line in shown.splitlines() if "/" not in line) <= 80
    assert main(["-m", "list", "-p", "Tops"]) == 0
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("small")]
    assert float(row[1]) == pytest.approx(accuracy, abs=5e-3)
    assert row[-1] == "benchmark"
    monkeypatch.setattr("phaze_ee.modes.benchmark._SECONDS", 0.0)
    monkeypatch.setattr("phaze_ee.modes.plot.write_drawings", write_nothing)
    assert main(["-m", "chain", *NAMED, "-o", "benchmark_plot"]) == 0


def test_list_has_a_line_for_each_project(project: Project, capsys: Capture) -> None:
    assert main(["-m", "new_project", "-p", "Tops", "other"]) == 0
    run(epsilon=0.3)
    capsys.readouterr()
    assert main(["-m", "list", "-p", "Tops"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["other", "-", "-", "-", "-", "train"] in rows
    assert ["small", "-", "default", "-", "-", "evaluate"] in rows
    assert main(["-m", "list"]) == 0
    assert main(["-m", "list", "-p", "nowhere"]) == 2
    assert "create one: phaze_ee -m new_project" in capsys.readouterr().err
