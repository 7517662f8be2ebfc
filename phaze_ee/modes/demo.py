"""Mode demo: the whole chain on the bundled sample jets."""

import itertools
from contextlib import suppress

from phaze_ee.errors import NothingPassedError
from phaze_ee.modes import chain
from phaze_ee.modes.console import console, say, say_in_columns
from phaze_ee.modes.current import read_current
from phaze_ee.modes.new_project import create_project
from phaze_ee.modes.session import Session
from phaze_ee.modes.show import describe_results
from phaze_ee.tables.benchmark import cost_sentences
from phaze_ee.workspace import Project

_OPERATIONS = "train_calibrate_evaluate_benchmark_predict_plot_report"
_FIRST_FIGURE = "macs_vs_accuracy"


def run(session: Session) -> None:
    """Create the project of ``-p``, or a new one in workspace ``demo``, and run the chain on it."""
    project = create_project(session.project if session.request.workspace else _free_project())
    say(f"Demo project {project}")
    with suppress(NothingPassedError):  # the chain has said so, and ran to its end
        chain.run_modes(session.for_project(project), _OPERATIONS)
    console.rule("done", align="left")
    _show_outcome(project)
    figures = sorted(project.plots.rglob("*.png"), key=lambda path: path.stem != _FIRST_FIGURE)
    say(f"plots   {figures[0]}")
    if len(figures) > 1:
        say(f"        and {len(figures) - 1} more in {project.plots}")
    say(f"report  {project.report}")
    say(f"scores  {project.predictions}")
    say(f"model   {project.best_model}")
    say(f"config  {project.config}")
    say(f"next    phaze_ee -m show -p {project.workspace} {project.name}")


def _show_outcome(project: Project) -> None:
    """Print accuracy and speed of the full model and of the policy."""
    current = read_current(project)
    say_in_columns(f"Full model: {describe_results(current)}")
    for sentence in cost_sentences(current.static.benchmark)[:1]:
        say_in_columns(sentence)


def _free_project() -> Project:
    for number in itertools.count(1):
        project = Project("demo", f"sample_jets_{number}")
        if not project.root.exists():
            return project
    raise AssertionError("itertools.count does not end")
