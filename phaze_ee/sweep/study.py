"""The Optuna study of a sweep: which values were tried, by which process, and which are next.

Optuna 5 takes 84 MB of disk with all it needs (22 MB beside what PHAZE-EE has anyway) and 1.4 s to import; it brings
the search, and storage that several processes share. Ray Tune would take 494 MB and 10 s for a fleet of its own inside
the batch system's; submitit (1 MB, 0.4 s) submits jobs, which an array job of the scheduler does without it: each of
its tasks runs the same sweep, see shell_scripts/sweep_slurm.sh.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from phaze_ee.results.sweep import SweepResults, SweepTrial, SweptOption
from phaze_ee.sweep.claim import Claim
from phaze_ee.sweep.process import last_line
from phaze_ee.sweep.space import Choices, Dimension, Range, Space, combinations, is_grid
from phaze_ee.sweep.trial_project import trial_project
from phaze_ee.workspace import Project


@dataclass(frozen=True)
class Attempt:
    """A trial of this process, and the values that were drawn for it."""

    number: int
    drawn: Mapping[str, Any]
    claim: Claim


class SweepStudy:
    """Hands out the trials of a study, also to several processes on several machines.

    All changes are made under one lock in ``folder``. So at most ``limit`` trials are drawn, no combination of a grid
    is drawn twice, and no two processes work on the same trial.

    Args:
        study: the study.
        folder: of the locks, the same for all processes.
        space: the varied options.
        seed: determines the next values, together with the complete trials.
        limit: the number of trials to draw; a grid has at most its number of combinations.
    """

    def __init__(self, study: optuna.Study, folder: Path, space: Space, seed: int, limit: int) -> None:
        self._study = study
        self._folder = folder
        self.lock = FileLock(folder / "study.lock")
        self.space = space
        self.seed = seed
        self.limit = limit
        self._distributions = {name: _distribution(dimension) for name, dimension in space.items()}

    def next_attempt(self) -> Attempt | None:
        """Return a trial that a dead process has left, else a new one; None if there are no more."""
        with self.lock:
            known = self._drop_half_drawn()
            for trial in known:
                if trial.state == TrialState.RUNNING and (claim := Claim.take(self._lock_of(trial.number))):
                    return Attempt(trial.number, trial.params, claim)
            if len(known) >= self.limit:
                return None
            drawn = self._draw(known)
            claim = Claim.take(self._lock_of(drawn.number))
            assert claim is not None  # numbers are never reused
            return Attempt(drawn.number, drawn.params, claim)

    def finish(self, attempt: Attempt, objective: float | None) -> None:
        """Record the end of a trial; it failed if it has no objective."""
        with self.lock:
            if objective is None:
                self._study.tell(attempt.number, state=TrialState.FAIL)
            else:
                self._study.tell(attempt.number, objective)
            attempt.claim.release()

    def trials(self) -> list[FrozenTrial]:
        """Return the trials in the order in which they were drawn."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.params.keys() == self.space.keys()]

    def _drop_half_drawn(self) -> list[FrozenTrial]:
        """Return the trials, without those whose process died while their values were drawn."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.params.keys() != self.space.keys():
                self._study.tell(trial.number, state=TrialState.FAIL)
        return self.trials()

    def _draw(self, known: list[FrozenTrial]) -> optuna.Trial:
        """Draw a trial with a new sampler, so that a restarted sweep draws the same values."""
        if is_grid(self.space):
            tried = [trial.params for trial in known]
            following = next(drawn for drawn in combinations(self.space) if drawn not in tried)
            self._study.enqueue_trial(following, skip_if_exists=True)
        self._study.sampler = optuna.samplers.TPESampler(seed=self.seed + len(known), constant_liar=True)
        return self._study.ask(self._distributions)

    def _lock_of(self, number: int) -> Path:
        return self._folder / f"trial_{number:03d}.lock"


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.texts)
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


_STATES: dict[TrialState, Literal["complete", "failed", "running"]] = {
    TrialState.COMPLETE: "complete",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


def write_results(study: SweepStudy, base: Project, name: str, objective: str) -> SweepResults:
    """Write ``sweep_results.json`` of a sweep, and return the results.

    Args:
        study: the study of the sweep.
        base: the project whose options are varied.
        name: of the sweep.
        objective: what the sweep maximises.

    Raises:
        RunError: it cannot be written.
    """
    space = {
        option: SweptOption(values=dimension.text, log=dimension.log if isinstance(dimension, Range) else None)
        for option, dimension in study.space.items()
    }
    with study.lock:  # of several processes that end trials at once, the last writes the final results
        trials = [_trial(trial, trial_project(base, name, trial.number)) for trial in study.trials()]
        results = SweepResults(project=base.name, study=name, objective=objective, space=space, trials=trials)
        results.write(base.sweep_results(name))
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
