from pathlib import Path
from types import SimpleNamespace

import pytest

from phaze_ee.errors import UsageError
from phaze_ee.sweep import objective
from phaze_ee.sweep.objective import Objective
from phaze_ee.workspace import Project
from tests.plots.examples import EXITS, benchmark_results

ACCURACIES = (0.5, 0.8, 0.6, 0.7)


@pytest.mark.parametrize(
    ("name", "expected"), [("full_model", 0.7), ("exits", 0.65), ("124M", 0.8), ("22000k", 0.5), ("1.5k", 0.0)]
)
def test_objective_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: float) -> None:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    metrics = {f"val/accuracy/{exit_}": value for exit_, value in zip(EXITS, ACCURACIES, strict=True)}
    best = SimpleNamespace(metrics=metrics, tagger=SimpleNamespace(exit_names=EXITS))
    monkeypatch.setattr(objective, "load_checkpoint", lambda path: best)
    project = Project("W", "P")
    benchmark_results(EXITS).write(project.benchmark_results)
    assert Objective(name).of(project) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["best", "50", "0M", "-3M", "M", ""])
def test_another_objective_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="neither full_model nor exits nor MACs"):
        Objective(name)
