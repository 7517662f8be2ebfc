"""Mode demo: the whole chain on the bundled sample jets."""

import itertools

from phaze_ee.modes import chain
from phaze_ee.modes.console import console, say, show
from phaze_ee.modes.new_project import create_project
from phaze_ee.modes.session import Session
from phaze_ee.results.benchmark import BenchmarkResults
from phaze_ee.tables.benchmark import benchmark_table
from phaze_ee.workspace import Project

_OPERATIONS = "train_calibrate_evaluate_benchmark_predict_plot"


def run(session: Session) -> None:
    """Create the project of ``-p``, or a new one in workspace ``demo``, and run the chain on it."""
    project = create_project(session.project if session.request.workspace else _free_project())
    say(f"Demo project {project}: {project.config}")
    chain.run_modes(session.for_project(project), _OPERATIONS)
    console.rule("done", align="left")
    show(benchmark_table(BenchmarkResults.read(project.benchmark_results, made_by="benchmark")))
    for path in sorted(project.plots.rglob("*.png")):
        say(f"plot    {path}")
    for path in sorted(project.predictions.glob("*.root"))[:1]:
        say(f"scores  {path} …")
    say(f"model   {project.best_model}")
    say(f"config  {project.config}")


def _free_project() -> Project:
    for number in itertools.count(1):
        project = Project("demo", f"sample_jets_{number}")
        if not project.root.exists():
            return project
    raise AssertionError("itertools.count does not end")
