"""A project's evaluation and benchmark, read together for figures."""

from phaze_ee.errors import UsageError
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


def _command(mode: str, project: Project) -> str:
    return f"phaze_ee -m {mode} -p {project.workspace} {project.name}"
