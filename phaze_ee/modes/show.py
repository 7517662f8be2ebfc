"""Mode show: what a project holds, how far it is, and what to run next."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import final

from rich.table import Table

from phaze_ee.errors import UsageError
from phaze_ee.evaluation.over_seeds import over_seeds
from phaze_ee.locks import is_locked
from phaze_ee.modes.console import say, say_in_columns, show
from phaze_ee.modes.current import command, read_current, read_judged
from phaze_ee.modes.policies import PolicySummary, active_name, failed_names, policy_names
from phaze_ee.modes.seeds_so_far import how_far, judged_seeds, known_seeds, seed_runs
from phaze_ee.modes.session import Session
from phaze_ee.names import FULL_MODEL, brief, quantity
from phaze_ee.results.evaluation import EvaluationResults, ExitEvaluation
from phaze_ee.results.policy import DynamicResults
from phaze_ee.results.seeds import OverSeeds, SeedRun
from phaze_ee.results.sweep import SweepResults
from phaze_ee.results.training import TrainingHistory
from phaze_ee.tables.style import UNKNOWN, add_caption, empty_table, few, with_error
from phaze_ee.workspace import Project

_LONGEST_NAME = 12


@final
@dataclass(frozen=True)
class Judged:
    """What evaluate found of the exits, and of the active policy; None: nothing of that policy."""

    evaluation: EvaluationResults
    dynamic: DynamicResults | None

    @property
    def full(self) -> ExitEvaluation:
        """What it found of the full model."""
        return self.evaluation.exits[FULL_MODEL]


def run(session: Session) -> None:
    """Print model, policies and results of the project of ``-p``, and the next command."""
    project = session.request.existing_project
    say(f"Project {project}: {project.config}")
    for path in sorted(project.sweeps.glob(project.sweep_results("*").relative_to(project.sweeps).as_posix())):
        say_in_columns(f"Sweep:    {describe_sweep(SweepResults.read(path, made_by='sweep'))}")
    if seeds := known_seeds(project):
        runs = seed_runs(project, seeds)
        show_seeds(project, runs)
        if project.model_hash is None:
            say(f"Next:     {next_of_seeds(project, runs)}")
            return
    say_in_columns(f"Model:    {describe_model(project)}")
    judged, problems = read_results(project)
    if project.model_hash is None:
        problems = []  # the next command is to train; then there will be results
    say_in_columns(f"Results:  {describe_results(judged)}")
    for problem in problems:
        say_in_columns(f"  {problem}")
    if rows := list(policy_rows(project)):
        show(policies_table(project, rows))
        active = read_active(project)
        if active is not None:
            say_in_columns(f"Active policy: {active.guarantee.statement}")
    else:
        say("Policies: none; mode 'calibrate' makes them")
    say(f"Next:     {'wait for it' if is_running(project) else next_command(project, judged, problems)}")


def describe_sweep(results: SweepResults) -> str:
    """Return how far a sweep is, and its best trial, in words."""
    counts = Counter(trial.state for trial in results.trials)
    far = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    best = results.ranked[0]
    found = "" if best.objective is None else f"; the best is project {best.project} ({best.objective:.4f})"
    return f"{results.study} over {', '.join(results.space)}: {quantity(len(results.trials), 'trial')} ({far}){found}"


def show_seeds(project: Project, runs: list[SeedRun]) -> None:
    """Print how far the seeds of a project are, the mean accuracy of their full models, and where they are."""
    first, last = runs[0].project, runs[-1].project
    say_in_columns(f"Seeds:    {how_far(runs)} of {len(runs)}: projects {first} … {last}, each like any other")
    full = seeds_accuracy(project, runs)
    if full is not None:
        meaning = "standard deviation over seeds" if len(full.values) > 1 else "of one seed"
        say(f"          accuracy {with_error(full.mean, full.spread)} ({meaning})")
    for run in runs:
        if run.error is not None:
            say_in_columns(f"  {run.project}: {run.error}")


def seeds_accuracy(project: Project, runs: list[SeedRun]) -> OverSeeds | None:
    """Return the accuracy of the full model over the evaluated seeds; None if there is none."""
    judged = judged_seeds(project, runs)
    return over_seeds([seed.exits.exits[FULL_MODEL].accuracy for seed in judged]) if judged else None


def read_results(project: Project) -> tuple[Judged | None, list[str]]:
    """Return what evaluate found of the current model, if it has run, and what is missing or does not belong to it."""
    try:
        current = read_current(project)
    except UsageError as error:
        problems = [str(error)]
    else:
        return Judged(current.static.evaluation, current.static.dynamic), list(current.left_out)
    try:
        evaluation, _, dynamic = read_judged(project)
    except UsageError:
        return None, problems
    return Judged(evaluation, dynamic), problems


def read_active(project: Project) -> PolicySummary | None:
    """Return the active policy; None without one."""
    return PolicySummary.read(project.exit_policy, made_by="calibrate") if project.exit_policy.is_file() else None


def describe_model(project: Project) -> str:
    """Return the state of the training in words."""
    history = None
    if project.training_history.is_file():
        history = TrainingHistory.read(project.training_history, made_by="train")
    epochs = "" if history is None else f", the best of {quantity(len(history.epochs), 'epoch')}"
    if is_running(project):
        return f"training runs now ({project.models})"
    if project.resume_point.is_file():
        return "training interrupted; the same command resumes it"
    if project.model_hash is None:
        return "not trained yet"
    return f"{project.best_model}{epochs}, {_when(project.best_model)}, hash {project.model_hash[:8]}"


def is_running(project: Project) -> bool:
    """Return whether a training of the project runs now."""
    return is_locked(project.models / "train.lock")


def describe_results(judged: Judged | None) -> str:
    """Return accuracy and cost of full model and policy in words."""
    if judged is None:
        return "none of this model"
    text = f"accuracy {judged.full.accuracy:.4f} ± {judged.full.accuracy_error:.4f}"
    if judged.dynamic is None:
        return text
    policy = judged.dynamic.policy
    accuracy = with_error(policy.accuracy, policy.accuracy_error)
    return f"{text}; with the policy {accuracy} at {100 * policy.macs_share:.1f} % of the MACs"


def policy_rows(project: Project) -> list[tuple[str, Path, str]]:
    """Return name, path and kind of all policies and failed calibrations; an active policy without a name first."""
    active, names = active_name(project), policy_names(project)
    rows = [(name, project.policy(name), "active" if name == active else "kept") for name in names]
    if active is None and project.exit_policy.is_file():
        rows.insert(0, ("(no name)", project.exit_policy, "active"))
    return [*rows, *((name, project.policy(f"{name}.failed"), "failed") for name in failed_names(project))]


def policies_table(project: Project, rows: list[tuple[str, Path, str]]) -> Table:
    """Return target, calibration jets, cost and date of each policy, and whether it can be used: at most 12 rows."""
    table = empty_table("Policies", ["target", "jets", "of full", "made", "state"], first="name")
    stale, moved = "", list[str]()
    for row in few(rows):
        if row is None:
            table.add_row("…")
            continue
        name, path, kind = row
        try:
            policy = PolicySummary.read(path, made_by="calibrate")
        except UsageError:
            table.add_row(brief(name, _LONGEST_NAME), *[UNKNOWN] * 4, "damaged")
            continue
        limit = policy.target.get("epsilon", policy.target.get("cost"))
        target = f"{policy.target['name']}" + (f" {limit:g}" if isinstance(limit, float) else "")
        cost = next(iter(policy.realised.values()), None)
        other = project.model_hash is not None and policy.model_hash != project.model_hash
        stale = "; stale: calibrated for another model" if other else stale
        if policy.moved_from is not None and policy.moved_from.step:
            moved.append(f"{name}: {quantity(policy.moved_from.step, 'step')} safer than {policy.moved_from.name}")
        table.add_row(
            brief(name, _LONGEST_NAME),
            target,
            f"{policy.calibration.jets:,}",
            UNKNOWN if cost is None else f"{100 * cost.cost_share:.1f} %",
            _when(path).split()[0],
            "stale" if other else kind,
        )
    add_caption(table, f"of full: mean cost on the calibration jets{stale}")
    for line in moved:
        add_caption(table, line)
    return table


def next_command(project: Project, judged: Judged | None, problems: list[str]) -> str:
    """Return the command that brings a project on."""
    if project.model_hash is None or project.resume_point.is_file():
        return command("train", project)
    active = read_active(project)
    calibrated = active is not None and active.model_hash == project.model_hash
    if calibrated and judged is not None and judged.dynamic is not None and not project.benchmark_results.is_file():
        return f"{command('chain', project)} -o benchmark_plot"
    if judged is None or problems or not calibrated:
        return f"{command('chain', project)} -o {'' if calibrated else 'calibrate_'}evaluate_benchmark_plot"
    return f"{command('predict', project)} --files FILES"


def next_of_seeds(project: Project, runs: list[SeedRun]) -> str:
    """Return the command that brings the seeds of a project on; those that are done are not done again."""
    if all(run.state == "evaluated" for run in runs):
        return command("report", project)
    return f"{command('chain', project)} -o train_calibrate_evaluate_benchmark --seeds {len(runs)}"


def _when(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
