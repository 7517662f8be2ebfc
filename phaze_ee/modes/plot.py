"""Mode plot: the figures of one project."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from phaze_ee.errors import UsageError
from phaze_ee.modes.console import console, say
from phaze_ee.modes.session import Session
from phaze_ee.names import FULL_MODEL
from phaze_ee.plots.audits import exit_histogram_figure, exit_rates_figure, mass_shapes_figure
from phaze_ee.plots.confusion import confusion_figure
from phaze_ee.plots.curves import accuracy_figure, loss_figure
from phaze_ee.plots.dynamic_tradeoff import DynamicProject, dynamic_figures
from phaze_ee.plots.ood import ood_auroc_figure, ood_scores_figure
from phaze_ee.plots.roc import roc_figure
from phaze_ee.plots.style import Drawing
from phaze_ee.plots.tradeoff import TRADEOFFS, ProjectResults, tradeoff_figures
from phaze_ee.plots.write import write_drawings
from phaze_ee.results.benchmark import BenchmarkResults
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.ood import OODResults
from phaze_ee.results.policy import DynamicResults
from phaze_ee.results.training import TrainingHistory
from phaze_ee.workspace import Project, existing_project

JudgedT = TypeVar("JudgedT", DynamicResults, OODResults)


def run(session: Session) -> None:
    """Draw the results of the project in output/plots, as PNG and PDF."""
    project = session.request.existing_project
    results = read_project_results(project)
    figures = {
        **_in_folder("performance", performance_figures(results)),
        **_in_folder("dynamic", policy_figures(project, results, session.request.projects)),
        **_in_folder("ood", ood_figures(project, results)),
        **_in_folder("loss", training_figures(project)),
    }
    write_figures(figures, project.plots)
    if project.training_history.is_file():
        return
    console.print("No training curves: the project has no training_history.json, so it was not trained here")


def performance_figures(results: ProjectResults) -> dict[str, Drawing]:
    """Return the trade-offs, confusion matrices and ROC curves by the names of their files."""
    evaluation = results.evaluation
    figures = tradeoff_figures([results])
    say_what_is_missing(figures)
    figures["confusion_matrix"] = partial(confusion_figure, evaluation, [FULL_MODEL])
    figures["confusion_matrices"] = partial(confusion_figure, evaluation, list(evaluation.exits))
    if _has_roc_curves(evaluation):
        figures["roc"] = partial(roc_figure, evaluation)
    else:
        console.print("No ROC curves: set c.background to a class that has jets, and run mode evaluate again")
    return figures


def policy_figures(project: Project, results: ProjectResults, rivals: Sequence[str]) -> dict[str, Drawing]:
    """Return the figures of the exit policy by the names of their files; none without a policy.

    Args:
        project: the project.
        results: its evaluation and benchmark.
        rivals: projects of the same workspace. Their full models are drawn as points.

    Raises:
        UsageError: a result is missing or of another model, or a rival has other classes.
    """
    dynamic = read_dynamic_results(project, results)
    if dynamic is None:
        return {}
    static = [read_project_results(existing_project(project.workspace, name)) for name in dict.fromkeys(rivals)]
    check_classes([results, *static])
    for rival in static:
        if rival.benchmark.latency is None:
            say(f"Not drawn: {rival.name} has no measured times; benchmark it with jets")
    figures = dynamic_figures(DynamicProject(dynamic, results.benchmark, static))
    figures["exit_histogram"] = partial(exit_histogram_figure, dynamic)
    if dynamic.exit_rates:
        figures["exit_rates"] = partial(exit_rates_figure, dynamic)
    if dynamic.mass is not None:
        figures["mass_shapes"] = partial(mass_shapes_figure, dynamic.mass)
    return figures


def ood_figures(project: Project, results: ProjectResults) -> dict[str, Drawing]:
    """Return how well exits notice jets of another kind, by the names of the files; none without OOD results."""
    ood = read_ood_results(project, results)
    return {} if ood is None else {"auroc": partial(ood_auroc_figure, ood), "scores": partial(ood_scores_figure, ood)}


def training_figures(project: Project) -> dict[str, Drawing]:
    """Return the training curves by the names of their files; none if the project was not trained here."""
    if not project.training_history.is_file():
        return {}
    history = TrainingHistory.read(project.training_history, made_by="train")
    return {"loss_curves": partial(loss_figure, history), "accuracy_curves": partial(accuracy_figure, history)}


def say_what_is_missing(tradeoffs: Mapping[str, Drawing]) -> None:
    """Print which trade-offs cannot be drawn."""
    for name in (name for name in TRADEOFFS if name not in tradeoffs):
        console.print(f"No {name}: a project has no AUC, which needs jets of at least two classes")


def write_figures(drawings: Mapping[str, Drawing], folder: Path) -> None:
    """Draw figures, write them below ``folder``, and print their paths."""
    for first, *others in write_drawings({folder / name: drawing for name, drawing in drawings.items()}):
        say(f"Written: {first}, {', '.join(path.suffix for path in others)}")


def _has_roc_curves(evaluation: EvaluationResults) -> bool:
    return any(exit_.roc_curves for exit_ in evaluation.exits.values())


def _in_folder(folder: str, figures: dict[str, Drawing]) -> dict[str, Drawing]:
    return {f"{folder}/{name}": figure for name, figure in figures.items()}


def read_project_results(project: Project) -> ProjectResults:
    """Return the evaluation and the benchmark of a project.

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
    """Check that the accuracies of projects can be compared.

    Raises:
        UsageError: two projects have different classes.
    """
    first = projects[0]
    for other in projects[1:]:
        if set(other.evaluation.classes) != set(first.evaluation.classes):
            raise UsageError(
                f"projects {first.name} and {other.name} cannot be compared: they have different classes "
                f"({len(first.evaluation.classes)} and {len(other.evaluation.classes)}); choose others in --projects"
            )


def read_dynamic_results(project: Project, results: ProjectResults) -> DynamicResults | None:
    """Return the evaluation of the exit policy, see :func:`_of_model`."""
    command = f"{_command('chain', project)} -o calibrate_evaluate_benchmark_plot"
    return _of_model(DynamicResults, project.dynamic_results, results, "the exit policy", command)


def read_ood_results(project: Project, results: ProjectResults) -> OODResults | None:
    """Return how well exits notice other jets, see :func:`_of_model`."""
    command = f"{_command('evaluate', project)} --ood FILES"
    return _of_model(OODResults, project.ood_results, results, "jets of another kind", command)


def _of_model(kind: type[JudgedT], path: Path, results: ProjectResults, what: str, command: str) -> JudgedT | None:
    """Return the results in a file; None if there is none, or, with a note, if they are of another model.

    Raises:
        UsageError: the file cannot be read.
    """
    if not path.is_file():
        return None
    found, evaluation = kind.read(path, made_by="evaluate"), results.evaluation
    if found.model_hash == evaluation.model_hash and list(found.exits) == list(evaluation.exits):
        return found
    say(f"Not drawn: {what}, for {path.name} was made with another model than evaluation_results.json; run {command}")
    return None


def _command(mode: str, project: Project) -> str:
    return f"phaze_ee -m {mode} -p {project.workspace} {project.name}"
