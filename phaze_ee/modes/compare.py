"""Mode compare: figures and a table of several projects of a workspace."""

import csv
import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from phaze_ee.atomic import check_can_write, replacing
from phaze_ee.errors import UsageError
from phaze_ee.evaluation.differences import compare_projects
from phaze_ee.modes.console import console, say, say_in_columns, say_written, show, show_notes
from phaze_ee.modes.current import CurrentResults
from phaze_ee.modes.plot import check_classes, say_what_is_missing, set_aside, write_figures
from phaze_ee.modes.seeds_so_far import known_seeds, read_means
from phaze_ee.modes.session import Session
from phaze_ee.names import FULL_MODEL, POLICY, brief, quantity
from phaze_ee.plots.comparison import policies_figure
from phaze_ee.plots.differences import differences_figure
from phaze_ee.plots.style import Drawing
from phaze_ee.plots.tradeoff import TRADEOFFS, tradeoff_figures
from phaze_ee.results.differences import ComparisonResults
from phaze_ee.results.project import ProjectResults
from phaze_ee.sweep.trial_project import seed_project
from phaze_ee.tables.comparison import comparison_table, exits_table
from phaze_ee.tables.differences import differences_table
from phaze_ee.workspace import Project, existing_project

OWN_FIGURES = tuple(f"comparison_{name}" for name in (*TRADEOFFS, "policies", "differences", "policy_differences"))
_DIFFERENCES = "comparison_results.json"
_SUMMARY = "comparison_summary.csv"
_SUMMARY_COLUMNS = (
    "project", "exit", "accuracy", "accuracy_error", "roc_auc", "flops", "macs", "params", "mean_macs", "model_hash",
    "policy_hash",
)  # fmt: skip
_LONGEST_NAME = 60  # characters of a folder's name


def run(session: Session) -> None:
    """Compare ``--projects``, by default all with results in the workspace. The project of ``-p`` is not used."""
    workspace, folder = session.project, session.project.comparisons
    names = list(dict.fromkeys(session.request.projects))
    found = _wanted(workspace, names) or _judged(workspace)
    projects = [current.static for current in found]
    check_classes(projects)
    differences = differences_of(projects)
    figures = comparison_figures(projects, differences)
    for line in (line for current in found for line in current.left_out):
        say_in_columns(line)
    show(comparison_table(projects))
    if session.request.details:
        show(exits_table(projects))
    _show_differences(differences)
    show_notes(_notes(projects))
    say_what_is_missing({name.removeprefix("comparison_"): figure for name, figure in figures.items()})
    check_can_write(folder)
    _keep_earlier(folder, [project.name for project in projects])
    set_aside([folder / name for name in OWN_FIGURES if name not in figures], folder / "previous")
    write_figures(figures, folder, details=session.request.details)
    if differences is not None:
        differences.write(folder / _DIFFERENCES)
        say_written(folder / _DIFFERENCES)
    _write_summary(folder / _SUMMARY, projects)


def differences_of(projects: Sequence[ProjectResults]) -> ComparisonResults | None:
    """Return the differences to the first project; None if it is the only one."""
    full_models = compare_projects(projects, FULL_MODEL)
    if full_models is None:
        return None
    names = [project.name for project in projects]
    return ComparisonResults(projects=names, full_models=full_models, policies=compare_projects(projects, POLICY))


def comparison_figures(
    projects: Sequence[ProjectResults], differences: ComparisonResults | None = None
) -> dict[str, Drawing]:
    """Return the figures by the names of their files."""
    figures = dict(tradeoff_figures(projects))
    if differences is not None:
        figures["differences"] = partial(differences_figure, differences.full_models)
    if differences is not None and differences.policies is not None:
        figures["policy_differences"] = partial(differences_figure, differences.policies)
    if any(project.dynamic is not None for project in projects):
        figures["policies"] = partial(policies_figure, projects)
    return {f"comparison_{name}": figure for name, figure in figures.items()}


def _show_differences(differences: ComparisonResults | None) -> None:
    if differences is None:
        return
    kinds = {"Full models": differences.full_models, "Policies": differences.policies}
    for kind, found in kinds.items():
        if found is not None:
            console.print()
            show(differences_table(found, f"{kind}: accuracy minus that of {brief(found.reference, 40)}", "project"))


def _wanted(workspace: Project, names: Sequence[str]) -> list[CurrentResults]:
    """Return the results of the projects of ``--projects``.

    Raises:
        UsageError: some have none; the first is explained, and the others are named.
    """
    found, problems = [], dict[str, UsageError]()
    for name in names:
        try:
            found.append(read_means(existing_project(workspace.workspace, name)))
        except UsageError as error:
            problems[name] = error
    if problems:
        first, *others = problems
        more = f"; nor can {', '.join(others)} be compared" if others else ""
        raise UsageError(f"{problems[first]}{more}")
    return found


def _judged(workspace: Project) -> list[CurrentResults]:
    """Return the results of the projects that have both, and print which are left out and why.

    Raises:
        UsageError: there is none.
    """
    folders = sorted(path for path in workspace.workspace_root.glob("*") if (path / "config").is_dir())
    projects = [Project(workspace.workspace, folder.name) for folder in folders]
    seeds = [seed_project(project, seed) for project in projects for seed in known_seeds(project)]
    judged = []
    for project in (project for project in projects if project not in seeds):
        found = [path.is_file() for path in (project.evaluation_results, project.benchmark_results)]
        if not all(found) and not known_seeds(project):
            if any(found):
                say_in_columns(f"Left out: {project} is not both evaluated and benchmarked")
            continue
        try:
            judged.append(read_means(project))
        except UsageError as error:
            say_in_columns(f"Left out: {error}")
    if not judged:
        raise UsageError(
            f"no project in {workspace.workspace_root} is evaluated and benchmarked; run "
            f"phaze_ee -m chain -p {workspace.workspace} PROJECT -o evaluate_benchmark for each to compare"
        )
    return judged


def _keep_earlier(folder: Path, names: Sequence[str]) -> None:
    """Move an earlier comparison of other projects into a folder with their names."""
    summary = folder / _SUMMARY
    if not summary.is_file():
        return
    with summary.open(encoding="utf-8", newline="") as file:
        earlier = list(dict.fromkeys(row.get("project") or "" for row in csv.DictReader(file)))
    if set(earlier) == set(names):
        return
    target = folder / _folder_name(earlier)
    target.mkdir(exist_ok=True)
    for path in folder.glob("comparison_*"):
        path.replace(target / path.name)
    say(f"Moved: the earlier comparison of {quantity(len(earlier), 'project')}, to {target}")


def _folder_name(names: Sequence[str]) -> str:
    joined = "+".join(names)
    if len(joined) <= _LONGEST_NAME:
        return joined
    return f"{joined[:_LONGEST_NAME]}+{hashlib.sha256(joined.encode()).hexdigest()[:8]}"


def _notes(projects: Sequence[ProjectResults]) -> list[str]:
    notes = [f"{project.name}: mean of {quantity(len(project.seeds), 'seed')}" for project in projects if project.seeds]
    dynamic = {project.name: project.dynamic for project in projects if project.dynamic is not None}
    notes += [f"{name}: the policy has {found.moved}" for name, found in dynamic.items() if found.moved is not None]
    targets = {name: found.policy.target for name, found in dynamic.items()}
    if len(set(targets.values())) > 1:
        said = "; ".join(f"{name}: {target}" for name, target in targets.items())
        notes.append(f"the policies have different targets ({said})")
    single = [project.name for project in projects if not project.seeds]
    if 0 < len(single) < len(projects):
        notes.append(f"{' and '.join(single)}: one training, so differences hold for this network alone")
    if len({tuple(project.evaluation.files) for project in projects}) > 1:
        notes.append("the projects were not evaluated on the same files")
    elif len({project.evaluation.jets for project in projects}) > 1:
        notes.append("the projects were not evaluated on the same jets of their files: their selections differ")
    if len({project.benchmark.particles for project in projects}) > 1:
        notes.append("MACs are for jets of different numbers of particles")
    return notes


def _write_summary(path: Path, projects: Sequence[ProjectResults]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_SUMMARY_COLUMNS)
        for project in projects:
            for name, exit_ in project.with_policy.exits.items():
                scores = (exit_.accuracy, exit_.accuracy_error, exit_.roc_auc)
                costs = (round(project.cost(name, cost)) for cost in ("flops", "macs", "params"))
                policy = project.dynamic.policy_hash if project.dynamic is not None and name == POLICY else None
                hashes = (project.evaluation.model_hash, policy)
                writer.writerow((project.name, name, *scores, *costs, exit_.mean_macs, *hashes))
    say_written(path)
