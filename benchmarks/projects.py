"""Creates, trains and evaluates the projects of a benchmark one after the other, with the modes of the command line."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from phaze_ee.modes import (
    chain,
    new_project,
)
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.results.benchmark import BenchmarkResults
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.training import TrainingHistory
from phaze_ee.workspace import Project


@dataclass(frozen=True)
class Judged:
    """The results of a project."""

    evaluation: EvaluationResults
    benchmark: BenchmarkResults
    history: TrainingHistory

    @property
    def jets_per_second(self) -> float:
        """The speed of the fastest epoch, which other work on the machine slowed down least."""
        return max(epoch.jets_per_second for epoch in self.history.epochs)


def made(workspace: str, name: str, options: Mapping[str, Any]) -> Project:
    """Return a new project with these values of some options."""
    project = Project(workspace, name)
    new_project.run(Session.open(Request("new_project", workspace, name)))
    with project.config.open("a") as file:
        file.writelines(f"    c.{option} = {value!r}\n" for option, value in options.items())
    return project


def judged(workspace: str, name: str, options: Mapping[str, Any]) -> Judged:
    """Train, evaluate and benchmark a new project with these values of some options.

    Results of an earlier run are kept.
    """
    project = Project(workspace, name)
    if not project.benchmark_results.is_file():
        if not project.root.exists():
            made(workspace, name, options)
        chain.run(Session.open(Request("chain", workspace, name, operations="train_evaluate_benchmark")))
    return Judged(
        EvaluationResults.read(project.evaluation_results, made_by="evaluate"),
        BenchmarkResults.read(project.benchmark_results, made_by="benchmark"),
        TrainingHistory.read(project.training_history, made_by="train"),
    )
