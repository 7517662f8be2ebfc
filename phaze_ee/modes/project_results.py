"""A project's evaluation and benchmark, read together for figures."""

from collections.abc import Sequence

from phaze_ee.dynamic_results import DynamicResults
from phaze_ee.errors import UsageError
from phaze_ee.modes.console import console
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
    if dynamic.model_hash != results.evaluation.model_hash or list(dynamic.exits) != list(results.evaluation.exits):
        console.print(
            "Not drawn: the exit policy, for dynamic_results.json was made with another model than "
            f"evaluation_results.json; run {_command('chain', project)} -o calibrate_evaluate_benchmark_plot",
            soft_wrap=True,
        )
        return None
    return dynamic


def _command(mode: str, project: Project) -> str:
    return f"phaze_ee -m {mode} -p {project.workspace} {project.name}"
