"""The option ``precision`` on the command line: refused on a CPU, recorded with a policy, and held to."""

import json
from pathlib import Path
from typing import Any

import pytest

from phaze_ee.cli import main
from phaze_ee.engine.engine import Engine
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.machine import Precision
from phaze_ee.models.tagger import Tagger
from phaze_ee.results.benchmark import BenchmarkResults
from phaze_ee.workspace import Project
from tests.modes.exit_policies import write_policy
from tests.modes.two_class_project import make_project, save_best_model

NAMED = ("-p", "Tops", "small")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    project = make_project(tmp_path, 'c.device = "cpu"')
    save_best_model(project)
    write_policy(project, ThresholdPolicy("confidence", (0.55, 0.55)))
    return project


@pytest.mark.parametrize("mode", ["calibrate", "evaluate", "predict", "benchmark"])
def test_a_cpu_has_float32_only(mode: str, project: Project, capsys: Capture) -> None:
    project.exit_policy.unlink()
    before = sorted(project.root.rglob("*.json"))
    assert main(["-m", mode, *NAMED, "--precision", "bfloat16"]) == 2
    assert "precision = 'bfloat16' needs a CUDA device" in " ".join(capsys.readouterr().err.split())
    assert sorted(project.root.rglob("*.json")) == before


@pytest.mark.parametrize("mode", ["evaluate", "predict", "benchmark", "export"])
def test_a_policy_of_another_precision(mode: str, project: Project, capsys: Capture) -> None:
    file = ExitPolicyFile.read(project.exit_policy, made_by="calibrate")
    file.model_copy(update={"precision": "tf32"}).write(project.exit_policy)
    before = {path: path.stat().st_mtime_ns for path in project.root.rglob("*.json")}
    assert main(["-m", mode, *NAMED]) == 2
    assert {path: path.stat().st_mtime_ns for path in project.root.rglob("*.json")} == before, "nothing is written"
    printed = " ".join(capsys.readouterr().err.split())
    assert "exit_policy.json was calibrated with precision = 'tf32'" in printed
    assert "run mode 'calibrate' again with" in printed


def test_a_file_without_the_field_is_of_float32(project: Project) -> None:
    content = json.loads(project.exit_policy.read_text())
    assert content.pop("precision") == "float32"
    del content["seal"]  # older files have none either
    project.exit_policy.write_text(json.dumps(content))
    assert ExitPolicyFile.read(project.exit_policy, made_by="calibrate").policy().precision == "float32"


def test_results_say_in_which_precision_they_were_made(project: Project) -> None:
    assert main(["-m", "evaluate", *NAMED]) == 0
    for path in (project.evaluation_results, project.dynamic_results):
        assert json.loads(path.read_text())["precision"] == "float32"


def test_accuracy_of_another_precision_is_left_out(project: Project, capsys: Capture) -> None:
    assert main(["-m", "evaluate", *NAMED]) == 0
    content = json.loads(project.evaluation_results.read_text())
    project.evaluation_results.write_text(json.dumps(content | {"precision": "tf32"}))
    assert main(["-m", "benchmark", *NAMED]) == 0
    assert "was made with precision = 'tf32' and is not used" in " ".join(capsys.readouterr().out.split())
    assert json.loads(project.benchmark_results.read_text())["full_model"]["accuracy"] is None


def test_benchmark_compares_with_float64(project: Project, capsys: Capture) -> None:
    assert main(["-m", "benchmark", *NAMED, "--details"]) == 0
    latency = BenchmarkResults.read(project.benchmark_results, made_by="benchmark").latency
    assert latency is not None
    (one,) = latency.precisions
    assert (one.precision, one.same_class) == ("float32", 1.0)
    assert 0 < one.largest_difference < 1e-5
    assert one.jets_per_second > 0
    assert "the full model, by precision" in capsys.readouterr().out


def test_a_budget_in_milliseconds_is_timed_in_the_precision(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[str] = []

    def engine(tagger: Tagger, policy: None = None, *, precision: Precision, **how: Any) -> Engine:
        seen.append(precision)
        return Engine(tagger, ThresholdPolicy("confidence", (0.55, 0.55)) if "event_budget" in how else None, **how)

    file = ExitPolicyFile.read(project.exit_policy, made_by="calibrate")
    file.model_copy(update={"precision": "tf32"}).write(project.exit_policy)
    for module in ("modes.predict", "prediction.job"):
        monkeypatch.setattr(f"phaze_ee.{module}.Engine", engine)
    monkeypatch.setattr("phaze_ee.modes.predict.checked_precision", lambda precision, device: precision)
    files = str(tmp_path / "val.root")
    command = ["-m", "predict", *NAMED, "--files", files, "--event-budget", "5ms", "--event-size", "4"]
    assert main([*command, "--precision", "tf32"]) == 0
    assert seen == ["tf32", "tf32"]
