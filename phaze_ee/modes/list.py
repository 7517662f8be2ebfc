"""Mode list: the projects of a workspace, or of all, with their state."""

from rich.table import Table

from phaze_ee.errors import UsageError
from phaze_ee.modes.console import say, say_in_columns, show
from phaze_ee.modes.policies import active_name
from phaze_ee.modes.seeds_so_far import known_seeds, seed_runs
from phaze_ee.modes.session import Session
from phaze_ee.modes.show import is_running, next_command, next_of_seeds, read_results, seeds_accuracy
from phaze_ee.names import brief
from phaze_ee.sweep.trial_project import seed_project
from phaze_ee.tables.style import UNKNOWN, empty_table, with_error
from phaze_ee.workspace import Project, near_workspace, workspaces_root

_LONGEST_NAME = 22


def run(session: Session) -> None:
    """Print a table for the workspace of ``-p``, or for each workspace that has projects.

    Raises:
        UsageError: there is no project.
    """
    root, wanted = workspaces_root(), session.request.workspace
    names = sorted(path.name for path in root.glob("*") if path.is_dir()) if wanted is None else [wanted]
    found = {name: projects for name in names if (projects := projects_of(name))}
    if not found:
        where = root if wanted is None else root / wanted
        near = None if wanted is None else near_workspace(wanted)
        hint = "" if near is None else f"did you mean workspace {near!r}? To "
        raise UsageError(f"no project in {where}; {hint}create one: phaze_ee -m new_project -p WORKSPACE PROJECT")
    for name, projects in found.items():
        show(projects_table(name, projects))
    if any(known_seeds(project) for projects in found.values() for project in projects):
        say("seeds: how many are evaluated, and the standard deviation of their accuracy")
    say_in_columns(f"Projects are in {root}; phaze_ee -m show -p WORKSPACE PROJECT shows one")


def projects_of(workspace: str) -> list[Project]:
    """Return the projects of a workspace that have a configuration, in alphabetical order."""
    folders = sorted(path.parent for path in (workspaces_root() / workspace).glob("*/config") if path.is_dir())
    projects = [Project(workspace, folder.name) for folder in folders]
    return [project for project in projects if project.config.is_file()]


def projects_table(workspace: str, projects: list[Project]) -> Table:
    """Return accuracy, policy and next mode of each project; the seeds of a project are one row, after its own."""
    table = empty_table(f"Workspace {workspace}", ["accuracy", "policy", "its accuracy", "of full", "next"], "project")
    seeds = {project: known_seeds(project) for project in projects}
    hidden = {seed_project(project, seed) for project, found in seeds.items() for seed in found}
    for project in (project for project in projects if project not in hidden):
        judged, problems = read_results(project)
        mode = _first_mode(next_command(project, judged, problems))
        full = None if judged is None else judged.full
        policy = None if judged is None or judged.dynamic is None else judged.dynamic.policy
        table.add_row(
            brief(project.name, _LONGEST_NAME),
            UNKNOWN if full is None else with_error(full.accuracy, full.accuracy_error),
            brief(active_name(project) or ("(no name)" if project.exit_policy.is_file() else UNKNOWN)),
            UNKNOWN if policy is None else with_error(policy.accuracy, policy.accuracy_error),
            UNKNOWN if policy is None else f"{100 * policy.macs_share:.1f} %",
            "training" if is_running(project) else UNKNOWN if seeds[project] and project.model_hash is None else mode,
        )
        if seeds[project]:
            table.add_row(*_seeds_row(project, seeds[project]))
    return table


def _first_mode(command: str) -> str:
    """Return the mode of a command; of a chain, its first step."""
    words = command.split()
    return words[words.index("-o") + 1].split("_")[0] if "-o" in words else words[words.index("-m") + 1]


def _seeds_row(project: Project, seeds: list[int]) -> list[str]:
    """Return a row: how many seeds are evaluated, their mean accuracy and its standard deviation, the next mode."""
    runs = seed_runs(project, seeds)
    full = seeds_accuracy(project, runs)
    done = sum(run.state == "evaluated" for run in runs)
    accuracy = UNKNOWN if full is None else with_error(full.mean, full.spread)
    name = f"  seeds: {done} of {len(runs)}"
    return [name, accuracy, "", "", "", _first_mode(next_of_seeds(project, runs))]
