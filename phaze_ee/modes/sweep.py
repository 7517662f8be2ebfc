"""Mode sweep: search over options of the configuration. Each trial is a project, which mode compare reads."""

import secrets
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

from phaze_ee.config.load import Configuration
from phaze_ee.config.options import Options
from phaze_ee.errors import RunError, UsageError
from phaze_ee.installation import extra_command
from phaze_ee.modes.console import say, say_in_columns, show, show_notes
from phaze_ee.modes.jets import choosing_jets
from phaze_ee.modes.plot import write_figures
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.names import quantity
from phaze_ee.plots.sweep import sweep_figure
from phaze_ee.results.sweep import SweepResults
from phaze_ee.sweep.objective import Objective
from phaze_ee.sweep.space import Space, check_space, combinations, is_grid, parse_space, values_of
from phaze_ee.sweep.trial_project import make_trial, trial_project
from phaze_ee.tables.sweep import sweep_table
from phaze_ee.workspace import Project, check_name, home_path

if TYPE_CHECKING:
    from phaze_ee.sweep.study import Attempt, SweepStudy

_TRIALS = 20  # of a search without --trials


@dataclass(frozen=True)
class Plan:
    """A sweep whose settings have been checked."""

    base: Project
    study: str
    storage: str
    space: Space
    objective: Objective
    configuration: Configuration
    options: Options
    trials: int
    workers: int

    @property
    def folder(self) -> Path:
        return self.base.sweeps / self.study


def run(session: Session) -> None:
    """Sweep over the project of ``-p``, or resume an interrupted sweep."""
    require_optuna()
    plan = _plan(session)
    study = _study(plan)
    say_in_columns(f"Study {plan.study} over {plan.base}: {_size(plan)}, {plan.objective.described}")
    results = _run(plan, study)
    show(sweep_table(results))
    running = sum(trial.state == "running" for trial in results.trials)
    show_notes([f"trials still running in other processes: {running}"] if running else [])
    complete = [trial.project for trial in results.ranked if trial.state == "complete"]
    if not complete and not running:
        raise RunError(
            f"no trial succeeded (of {len(results.trials)}); their output is in output/logs/sweep.log of each"
        )
    if complete:
        write_figures({"sweep": partial(sweep_figure, results)}, plan.folder)
        show_notes(_ties(plan, results) if len(complete) > 1 else [])
        best = " ".join(complete[:3])
        say(f"Compare the best: phaze_ee -m compare -p {plan.base.workspace} all --projects {best}")


def _ties(plan: Plan, results: SweepResults) -> list[str]:
    """Return a note with the error of the best objective, and how many trials are within it."""
    best, *others = (trial.objective for trial in results.ranked if trial.objective is not None)
    jets = judging_jets(Session.open(Request("train", plan.base.workspace, results.ranked[0].project)))
    error = sqrt(best * (1 - best) / jets)
    ties = sum(best - other <= error for other in others)
    mean = "at most " if plan.objective.name == "exits" else ""  # a mean of several accuracies varies less than one
    return [
        f"the best objective, of {jets:,} validation jets, has an error of {mean}{error:.2g}; other trials within it: "
        f"{ties or 'none'}"
    ]


def judging_jets(trial: Session) -> int:
    """Return how many validation jets chose the best epoch of a trained trial, and gave its objective."""
    return sum(len(batch) for batch in choosing_jets(trial, trial.model.schema))


def require_optuna() -> None:
    """Raise UsageError with the install command unless Optuna is installed."""
    if find_spec("optuna") is None:
        raise UsageError(f"mode 'sweep' needs Optuna, which is not installed; install it, {extra_command('sweep')}")


def _plan(session: Session) -> Plan:
    """Return the checked settings of a sweep. Nothing is written yet."""
    request = session.request
    space = parse_space(request.set)
    objective = Objective(request.objective)
    base = session.project
    study = check_name("study", request.study)
    for flag, number in (("--trials", request.trials), ("--workers", request.workers)):
        if number is not None and number < 1:
            raise UsageError(f"{flag} {number} is too small; give at least 1")
    for option in ("train_files", "val_files", session.judged_files):
        session.files(option)
    check_space(space, session.configuration.options)
    trials = request.trials or _TRIALS
    if is_grid(space):
        count = sum(1 for _ in combinations(space))
        trials = min(request.trials or count, count)
    storage = _named_storage(request.storage) or str(base.sweeps / study / "study.journal")
    return Plan(
        base, study, storage, space, objective, session.configuration, session.options, trials, request.workers or 1
    )


def _named_storage(storage: str | None) -> str | None:
    """Return the storage of ``--storage``.

    Raises:
        UsageError: it is a file in a folder that does not exist: a new one would begin another study in silence.
    """
    if storage is not None and "://" not in storage and not (folder := home_path(storage).absolute().parent).is_dir():
        raise UsageError(f"--storage {storage}: folder {folder} does not exist; create it, or correct the name")
    return storage


def _study(plan: Plan) -> "SweepStudy":
    from phaze_ee.sweep.storage import open_study
    from phaze_ee.sweep.study import SweepStudy

    # A study of an older version knows no plug-ins.
    without = {*plan.space, *(() if plan.options.plugins else ("plugins",))}
    own = plan.options.model_dump(mode="json", exclude=without)
    space = {name: dimension.text for name, dimension in plan.space.items()}
    terms = {"--set": space, "--objective": plan.objective.name, f"the configuration of {plan.base}:": own}
    seed = secrets.randbits(31) if plan.options.seed is None else plan.options.seed
    study, seed = open_study(plan.storage, f"{plan.base}/{plan.study}", plan.folder, terms, seed)
    return SweepStudy(study, plan.folder, plan.space, seed, plan.trials)


def _size(plan: Plan) -> str:
    varied = ", ".join(plan.space)
    return f"{quantity(plan.trials, 'combination' if is_grid(plan.space) else 'trial')} of {varied}"


def _run(plan: Plan, study: "SweepStudy") -> SweepResults:
    """Run the remaining trials, and update the results whenever one ends."""
    from phaze_ee.sweep.study import write_results
    from phaze_ee.sweep.trials import run_trials

    def make(attempt: "Attempt") -> tuple[Project, Options]:
        project = trial_project(plan.base, plan.study, attempt.number)
        values = {"seed": study.seed, "seeds": None, **values_of(plan.space, attempt.drawn)}
        options = plan.configuration.options(values)
        make_trial(project, plan.base, plan.study, options, attempt.drawn)
        drawn = ", ".join(f"{name} = {value}" for name, value in attempt.drawn.items())
        say_in_columns(f"{project.name} starts with {drawn}")
        return project, options

    def record() -> SweepResults:
        return write_results(study, plan.base, plan.study, plan.objective.name)

    results = record()
    for event in run_trials(study, make, plan.objective, plan.workers):
        results = record()
        if event.objective is None:
            failed = next(trial.error for trial in results.trials if trial.project == event.project.name)
            say_in_columns(f"{event.project.name} failed: {failed}")
        else:
            say_in_columns(f"{event.project.name} has {event.objective:.4f}")
    return results
