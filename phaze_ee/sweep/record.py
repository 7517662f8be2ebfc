"""From a study to the results of a sweep."""

from typing import Literal

from optuna.trial import FrozenTrial, TrialState

from phaze_ee.sweep.process import last_line
from phaze_ee.sweep.space import Range
from phaze_ee.sweep.study import SweepStudy
from phaze_ee.sweep.trial_project import trial_project
from phaze_ee.sweep_results import SweepResults, SweepTrial, SweptOption
from phaze_ee.workspace import Project

_STATES: dict[TrialState, Literal["complete", "failed", "running"]] = {
    TrialState.COMPLETE: "complete",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


def write_results(study: SweepStudy, base: Project, name: str, objective: str) -> SweepResults:
    """Write ``sweep_results.json`` of a sweep and return what it holds.

    Args:
        study: the study behind it.
        base: the project that is swept over.
        name: of the sweep.
        objective: what it makes large.

    Raises:
        RunError: it cannot be written.
    """
    space = {
        option: SweptOption(values=dimension.text, log=dimension.log if isinstance(dimension, Range) else None)
        for option, dimension in study.space.items()
    }
    with study.lock:  # of several processes that end a trial, the last has the last word
        trials = [_trial(trial, trial_project(base, name, trial.number)) for trial in study.trials()]
        results = SweepResults(project=base.name, study=name, objective=objective, space=space, trials=trials)
        results.write(base.sweeps / name / "sweep_results.json")
    return results


def _trial(trial: FrozenTrial, project: Project) -> SweepTrial:
    state = _STATES[trial.state]
    return SweepTrial(
        project=project.name,
        state=state,
        values=trial.params,
        objective=trial.value if state == "complete" else None,
        error=last_line(project) if state == "failed" else None,
    )
