"""Mode new_project: create the folders of a project and a configuration that runs as it is."""

import shutil
from collections.abc import Callable
from contextlib import ExitStack

from phaze_ee.atomic import replacing
from phaze_ee.config.template import render_config
from phaze_ee.errors import UsageError
from phaze_ee.modes.console import say, say_in_columns
from phaze_ee.modes.session import Session
from phaze_ee.workspace import Project

_CHAIN = "train_calibrate_evaluate_benchmark_plot"


def run(session: Session) -> None:
    """Create the project of ``-p``."""
    project = create_project(session.project)
    say_in_columns(f"Created project {project}. It runs as it is, on the bundled sample jets:")
    say(f"  edit  {project.config}")
    say(f"  run   phaze_ee -m chain -p {project.workspace} {project.name} -o {_CHAIN}")


def create_project(project: Project, render: Callable[[str], str] = render_config) -> Project:
    """Create the folders of a project and write its configuration, which ``render`` returns for the project's name.

    Raises:
        UsageError: the project exists already; nothing is changed.
        RunError: the folders cannot be written.
    """
    check_new(project)
    with ExitStack() as undo:
        # Half a project would block the next attempt.
        undo.callback(shutil.rmtree, project.root, ignore_errors=True)
        with replacing(project.config) as temporary:
            for folder in project.folders:
                folder.mkdir(parents=True, exist_ok=True)
            temporary.write_text(render(str(project)), encoding="utf-8")
        undo.pop_all()
    return project


def check_new(project: Project) -> None:
    """Raise UsageError if the project exists already."""
    if project.root.exists():
        raise UsageError(f"project {project} exists already in {project.root}; choose another name or delete it first")
