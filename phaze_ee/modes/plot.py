"""Mode plot: the figures of one project."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from phaze_ee.errors import UsageError
from phaze_ee.evaluation.differences import compare_exits
from phaze_ee.modes.console import say, say_in_columns, say_written, short
from phaze_ee.modes.current import CurrentResults, read_current
from phaze_ee.modes.session import Session
from phaze_ee.names import FULL_MODEL, brief, quantity
from phaze_ee.plots.audits import FEWEST_JETS, exit_histogram_figure, exit_rates_figure, mass_shapes_figure
from phaze_ee.plots.confusion import confusion_figure
from phaze_ee.plots.curves import accuracy_figure, loss_figure
from phaze_ee.plots.differences import differences_figure
from phaze_ee.plots.dynamic_tradeoff import DynamicProject, dynamic_figures
from phaze_ee.plots.ood import ood_auroc_figure, ood_scores_figure
from phaze_ee.plots.placement import placement_figure
from phaze_ee.plots.roc import roc_figure
from phaze_ee.plots.style import Drawing
from phaze_ee.plots.titles import letters_without_glyphs
from phaze_ee.plots.tradeoff import TRADEOFFS, tradeoff_figures
from phaze_ee.plots.write import write_drawings
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.ood import OODResults
from phaze_ee.results.policy import MassAudit
from phaze_ee.results.project import ProjectResults
from phaze_ee.workspace import Project, existing_project

# What this mode draws. The folder performance also has the figure of mode find_lr.
OWN_FIGURES = (
    *(
        f"performance/{name}"
        for name in (*TRADEOFFS, "confusion_matrix", "confusion_matrices", "roc", "placement", "differences")
    ),
    *(f"dynamic/{cost}_vs_{score}" for cost in ("macs", "time") for score in ("accuracy", "rejection")),
    *(f"dynamic/{name}" for name in ("exit_histogram", "exit_rates", "mass_shapes")),
    *("ood/auroc", "ood/scores", "loss/loss_curves", "loss/accuracy_curves"),
)
_FEW_FIGURES = 3
_MOST_SAID = 40  # letters and commas


def run(session: Session) -> None:
    """Draw the results of the project in output/plots, as PNG and PDF. What is not of the current model is left out."""
    project, request = session.request.existing_project, session.request
    current = read_current(project, request.policy)
    figures = {
        **_in_folder("performance", performance_figures(current.static)),
        **_in_folder("performance", placement_figures(current)),
        **_in_folder("dynamic", policy_figures(project, current.static, request.projects)),
        **_in_folder("ood", ood_figures(current.ood)),
        **_in_folder("loss", training_figures(current)),
    }
    for line in current.left_out:
        say_in_columns(line)
    unknown = letters_without_glyphs(current.static.evaluation.classes)
    if unknown:
        letters = brief(", ".join(unknown), _MOST_SAID)
        say_in_columns(f"Note: the fonts of figures lack {letters}; '?' stands for them in names of classes")
    set_aside([project.plots / name for name in OWN_FIGURES if name not in figures], project.plots / "previous")
    write_figures(figures, project.plots, details=request.details)
    if not project.training_history.is_file():
        say_in_columns("No training curves: the project has no training_history.json, so it was not trained here")


def performance_figures(results: ProjectResults) -> dict[str, Drawing]:
    """Return the trade-offs, differences, confusion matrices and ROC curves by the names of their files."""
    evaluation = results.evaluation
    figures = tradeoff_figures([results])
    say_what_is_missing(figures)
    judged = results.with_policy
    figures["confusion_matrix"] = partial(confusion_figure, evaluation, [FULL_MODEL])
    figures["confusion_matrices"] = partial(confusion_figure, judged, list(judged.exits))
    differences = compare_exits(results)
    if differences is not None:
        figures["differences"] = partial(differences_figure, differences)
    if _has_roc_curves(evaluation):
        figures["roc"] = partial(roc_figure, judged)
    else:
        say_in_columns("No ROC curves: set c.background to a class that has jets, and run mode evaluate again")
    return figures


def policy_figures(project: Project, results: ProjectResults, rivals: Sequence[str]) -> dict[str, Drawing]:
    """Return the figures of the exit policy by the names of their files; none without a judged policy.

    Args:
        project: the project.
        results: its current results.
        rivals: projects of the same workspace. Their full models are drawn as points.

    Raises:
        UsageError: a result of a rival is missing or of another model, or it has other classes.
    """
    others = [read_current(existing_project(project.workspace, name)) for name in dict.fromkeys(rivals)]
    static = [other.static for other in others]
    check_classes([results, *static])
    dynamic = results.dynamic
    if dynamic is None:
        return {}
    for rival in static:
        if rival.benchmark.latency is None:
            say(f"Not drawn: {rival.name} has no measured times; benchmark it with jets")
    figures = dynamic_figures(DynamicProject(dynamic, results.benchmark, static))
    figures["exit_histogram"] = partial(exit_histogram_figure, dynamic)
    if dynamic.exit_rates:
        figures["exit_rates"] = partial(exit_rates_figure, dynamic)
    return figures if dynamic.mass is None else {**figures, **_mass_figure(dynamic.mass)}


def _mass_figure(mass: MassAudit) -> dict[str, Drawing]:
    if max(mass.full_model.jets, mass.mixture.jets) >= FEWEST_JETS:
        return {"mass_shapes": partial(mass_shapes_figure, mass)}
    say(f"No mass_shapes: fewer than {FEWEST_JETS} {mass.background} jets pass the cut")
    return {}


def placement_figures(current: CurrentResults) -> dict[str, Drawing]:
    """Return the figure of mode place by the name of its file; none without results of this model."""
    return {} if current.placement is None else {"placement": partial(placement_figure, current.placement)}


def ood_figures(ood: OODResults | None) -> dict[str, Drawing]:
    """Return how well exits notice out-of-distribution jets, by the names of the files; none without OOD results."""
    return {} if ood is None else {"auroc": partial(ood_auroc_figure, ood), "scores": partial(ood_scores_figure, ood)}


def training_figures(current: CurrentResults) -> dict[str, Drawing]:
    """Return the training curves by the names of their files; none if the evaluated model was not trained here."""
    history = current.history
    if history is None:
        return {}
    losses = partial(
        loss_figure, history, {name: exit_.loss for name, exit_ in current.static.evaluation.exits.items()}
    )
    return {"loss_curves": losses, "accuracy_curves": partial(accuracy_figure, history)}


def say_what_is_missing(tradeoffs: Mapping[str, Drawing]) -> None:
    """Print which trade-offs cannot be drawn."""
    for name in (name for name in TRADEOFFS if name not in tradeoffs):
        say_in_columns(f"No {name}: a project has no AUC, which needs jets of at least two classes")


def write_figures(drawings: Mapping[str, Drawing], folder: Path, *, details: bool = False) -> None:
    """Draw figures and write them below ``folder``. Print their paths if they are few or with ``details``."""
    written = list(write_drawings({folder / name: drawing for name, drawing in drawings.items()}))
    if details or len(written) <= _FEW_FIGURES:
        for first, *others in written:
            say_written(first, f", {', '.join(path.suffix for path in others)}")
        return
    say(f"Written: {len(written)} figures in {short(folder)}")


def set_aside(figures: Iterable[Path], folder: Path) -> None:
    """Move earlier figures, given without suffix, to a folder, so that none of another model stays among the new."""
    earlier = [
        path
        for stem in figures
        for suffix in (".png", ".pdf")
        if (path := stem.with_name(stem.name + suffix)).is_file()
    ]
    for path in earlier:
        target = folder / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    if earlier:
        count = quantity(len({path.stem for path in earlier}), "earlier figure")
        say(f"Moved to {folder}: {count} that cannot be drawn now")


def _has_roc_curves(evaluation: EvaluationResults) -> bool:
    return any(exit_.roc_curves for exit_ in evaluation.exits.values())


def _in_folder(folder: str, figures: dict[str, Drawing]) -> dict[str, Drawing]:
    return {f"{folder}/{name}": figure for name, figure in figures.items()}


def check_classes(projects: Sequence[ProjectResults]) -> None:
    """Check that the accuracies of projects can be compared.

    Raises:
        UsageError: two projects have different classes.
    """
    first = projects[0]
    for other in projects[1:]:
        own, others = (set(project.evaluation.classes) for project in (first, other))
        if own != others:
            names = [", ".join(sorted(missing)) or "no other" for missing in (own - others, others - own)]
            raise UsageError(
                f"projects {first.name} and {other.name} cannot be compared: they have different classes "
                f"({names[0]} in {first.name} alone, {names[1]} in {other.name} alone); choose others in --projects"
            )
