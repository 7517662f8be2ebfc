"""A project's evaluation and benchmark, read together for figures."""

from collections.abc import Sequence

from phaze_ee.dynamic_results import DynamicResults
from phaze_ee.errors import UsageError
from phaze_ee.modes.console import console
from phaze_ee.ood_results import OODResults
from phaze_ee.plots.tradeoff import ProjectResults
from phaze_ee.results import BenchmarkResults, EvaluationResults
from phaze_ee.workspace import Project


def read_project_results(project: Project) -> ProjectResults:
    """Read both results of a project.

    Raises:
        UsageError: one is missing or unreadable, or the two were made with different models.
    """
    for mode, path in (("evaluate", project.evaluation_results), ("benchmark", project.benchmark_results)):
        if not path.is_file():
            raise UsageError(f"project {project} has no {path.name} yet; run {_command(mode, project)}")
    evaluation = EvaluationResults.read(project.evaluation_results, made_by="evaluate")
    benchmark = BenchmarkResults.read(project.benchmark_results, made_by="benchmark")
    if evaluation.model_hash != benchmark.model_hash or list(evaluation.exits) != list(benchmark.exits):
        raise UsageError(
            f"project {project}: evaluation_results.json and benchmark_results.json were made with different models; "
            f"run {_command('chain', project)} -o evaluate_benchmark"
        )
    return ProjectResults(project.name, evaluation, benchmark)


def check_classes(projects: Sequence[ProjectResults]) -> None:
    """Check that accuracies mean the same.

    Raises:
        UsageError: two projects tell apart different classes.
    """
    first = projects[0]
    for other in projects[1:]:
        if set(other.evaluation.classes) != set(first.evaluation.classes):
            raise UsageError(
                f"projects {first.name} and {other.name} cannot be compared: they tell apart different classes "
                f"({len(first.evaluation.classes)} and {len(other.evaluation.classes)}); choose others in --projects"
            )


def read_dynamic_results(project: Project, results: ProjectResults) -> DynamicResults | None:
    """Read the judged exit policy of a project; None without one, and with a note where it is of another model.

    Raises:
        UsageError: it is unreadable.
    """
    if not project.dynamic_results.is_file():
        return None
    dynamic = DynamicResults.read(project.dynamic_results, made_by="evaluate")
    command = f"{_command('chain', project)} -o calibrate_evaluate_benchmark_plot"
    return (
        dynamic
        if _is_of_model(dynamic, results, f"the exit policy, for {project.dynamic_results.name}", command)
        else None
    )


def read_ood_results(project: Project, results: ProjectResults) -> OODResults | None:
    """Read how well exits notice other jets; None where it was not asked, and with a note if of another model.

    Raises:
        UsageError: it is unreadable.
    """
    if not project.ood_results.is_file():
        return None
    ood = OODResults.read(project.ood_results, made_by="evaluate")
    command = f"{_command('evaluate', project)} --ood FILES"
    return ood if _is_of_model(ood, results, f"jets of another kind, for {project.ood_results.name}", command) else None


def _is_of_model(found: DynamicResults | OODResults, results: ProjectResults, what: str, command: str) -> bool:
    """Return whether a result is of the evaluated model; say what is not drawn and how to make it anew if not."""
    evaluation = results.evaluation
    if found.model_hash == evaluation.model_hash and list(found.exits) == list(evaluation.exits):
        return True
    console.print(
        f"Not drawn: {what} was made with another model than evaluation_results.json; run {command}", soft_wrap=True
    )
    return False


def _command(mode: str, project: Project) -> str:
    return f"phaze_ee -m {mode} -p {project.workspace} {project.name}"
