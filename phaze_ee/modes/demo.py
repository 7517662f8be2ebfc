"""Mode demo: the whole chain on the bundled H->bb and QCD jets."""

import itertools
from contextlib import suppress

from phaze_ee.config.template import render_demo
from phaze_ee.errors import NothingPassedError
from phaze_ee.modes import chain
from phaze_ee.modes.console import console, say, say_in_columns, short, show
from phaze_ee.modes.current import command, read_current
from phaze_ee.modes.new_project import create_project
from phaze_ee.modes.session import Session
from phaze_ee.modes.show import Judged, describe_results, read_active
from phaze_ee.tables.headline import Headline, headline_sentence, headline_table
from phaze_ee.workspace import Project

_OPERATIONS = "train_calibrate_evaluate_benchmark_predict_plot_report"


def run(session: Session) -> None:
    """Create the project of ``-p``, or a new one in workspace ``demo``, and run the chain on it."""
    project = create_project(session.project if session.request.workspace else _free_project(), render_demo)
    say(f"Demo project {project}")
    with suppress(NothingPassedError):  # the chain has said so, and ran to its end
        chain.run_modes(session.for_project(project), _OPERATIONS)
    console.rule("done", align="left")
    _show_outcome(project)
    say(f"Report: {short(project.report)}")
    say(f"Model, scores, figures and configuration: {short(project.root)}")
    say(f"Next: {command('show', project)}")


def _show_outcome(project: Project) -> None:
    """Print what the policy saves and whether its promise is kept; without a policy, the full model's accuracy."""
    current, active = read_current(project), read_active(project)
    headline = None if active is None else Headline.of(current.static, active.target)
    if active is None or headline is None:
        say_in_columns(f"Full model: {describe_results(Judged(current.static.evaluation, current.static.dynamic))}")
        return
    show(headline_table(headline))
    say_in_columns(headline_sentence(headline, 1 - active.guarantee.delta))


def _free_project() -> Project:
    for number in itertools.count(1):
        project = Project("demo", f"sample_jets_{number}")
        if not project.root.exists():
            return project
    raise AssertionError("itertools.count does not end")
