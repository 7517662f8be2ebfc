"""Mode compare: figures and a table of several projects of a workspace."""

import csv
from collections.abc import Sequence
from pathlib import Path

from phaze_ee.atomic import replacing
from phaze_ee.errors import UsageError
from phaze_ee.modes.console import say, show, show_notes
from phaze_ee.modes.plot import check_classes, read_project_results, say_what_is_missing, write_figures
from phaze_ee.modes.session import Session
from phaze_ee.plots.tradeoff import ProjectResults, tradeoff_figures
from phaze_ee.tables.benchmark import comparison_table
from phaze_ee.workspace import Project, existing_project

_SUMMARY_COLUMNS = ("project", "exit", "accuracy", "accuracy_error", "roc_auc", "flops", "macs", "params")


def run(session: Session) -> None:
    """Compare ``--projects``, by default all with results in the workspace. The project of ``-p`` is not used."""
    workspace = session.project
    names = list(dict.fromkeys(session.request.projects)) or _judged_projects(workspace)
    projects = [read_project_results(existing_project(workspace.workspace, name)) for name in names]
    check_classes(projects)
    figures = {f"comparison_{name}": figure for name, figure in tradeoff_figures(projects).items()}
    show(comparison_table([(project.name, project.evaluation, project.benchmark) for project in projects]))
    show_notes(_notes(projects))
    say_what_is_missing({name.removeprefix("comparison_"): figure for name, figure in figures.items()})
    write_figures(figures, workspace.comparisons)
    _write_summary(workspace.comparisons / "comparison_summary.csv", projects)


def _judged_projects(workspace: Project) -> list[str]:
    """Return the projects that have both results, and print those that have only one.

    Raises:
        UsageError: there is none.
    """
    judged = []
    for folder in sorted(path for path in workspace.workspace_root.glob("*") if (path / "config").is_dir()):
        project = Project(workspace.workspace, folder.name)
        found = [path.is_file() for path in (project.evaluation_results, project.benchmark_results)]
        if all(found):
            judged.append(project.name)
        elif any(found):
            say(f"Left out: {project} is not both evaluated and benchmarked")
    if not judged:
        raise UsageError(
            f"no project in {workspace.workspace_root} is evaluated and benchmarked; run "
            f"phaze_ee -m chain -p {workspace.workspace} PROJECT -o evaluate_benchmark for each to compare"
        )
    return judged


def _notes(projects: Sequence[ProjectResults]) -> list[str]:
    notes = []
    if len({(tuple(project.evaluation.files), project.evaluation.jets) for project in projects}) > 1:
        notes.append("the projects were not evaluated on the same files")
    if len({project.benchmark.particles for project in projects}) > 1:
        notes.append("MACs are for jets of different numbers of particles")
    return notes


def _write_summary(path: Path, projects: Sequence[ProjectResults]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_SUMMARY_COLUMNS)
        for project in projects:
            for name, exit_ in project.evaluation.exits.items():
                cost = project.benchmark.exits[name]
                scores = (exit_.accuracy, exit_.accuracy_error, exit_.roc_auc)
                writer.writerow((project.name, name, *scores, cost.flops, cost.macs, cost.params))
    say(f"Written: {path}")
