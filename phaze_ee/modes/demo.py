"""Mode demo: the whole main job on the bundled sample jets."""

import dataclasses
import itertools

from phaze_ee.modes import chain
from phaze_ee.modes.console import console, show
from phaze_ee.modes.new_project import create_project
from phaze_ee.modes.request import Request
from phaze_ee.results.benchmark import BenchmarkResults
from phaze_ee.tables.benchmark import benchmark_table
from phaze_ee.workspace import Project

_OPERATIONS = "train_calibrate_evaluate_benchmark_predict_plot"


def run(request: Request) -> None:
    """Create a project, of ``-p`` or a fresh one in workspace ``demo``, and take it through the chain."""
    project = create_project(request.named_project if request.workspace else _free_project())
    console.print(f"Demo project {project}: {project.config}", soft_wrap=True)
    named = dataclasses.replace(request, workspace=project.workspace, project=project.name, operations=_OPERATIONS)
    chain.run(named)
    console.rule("done", align="left")
    show(benchmark_table(BenchmarkResults.read(project.benchmark_results, made_by="benchmark")))
    for path in sorted(project.plots.rglob("*.png")):
        console.print(f"plot    {path}", soft_wrap=True)
    for path in sorted(project.predictions.glob("*.root"))[:1]:
        console.print(f"scores  {path} …", soft_wrap=True)
    console.print(f"model   {project.best_model}", soft_wrap=True)
    console.print(f"config  {project.config}", soft_wrap=True)


def _free_project() -> Project:
    for number in itertools.count(1):
        project = Project("demo", f"sample_jets_{number}")
        if not project.root.exists():
            return project
    raise AssertionError("itertools.count does not end")
