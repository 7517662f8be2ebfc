"""The option ``precision`` on the command line: refused on a CPU, recorded with a policy, and held to."""

import json
from pathlib import Path

import pytest

from phaze_ee.cli import main
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import ExitPolicyFile
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
    project.exit_policy.write_text(json.dumps(content))
    assert ExitPolicyFile.read(project.exit_policy, made_by="calibrate").policy().precision == "float32"
