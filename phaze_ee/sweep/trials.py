"""The trials of a study as the work of a fleet."""

import math
from collections.abc import Callable, Iterator
from typing import final

from phaze_ee.config.options import Options
from phaze_ee.errors import PhazeError
from phaze_ee.sweep.fleet import Event, Job, run_jobs
from phaze_ee.sweep.objective import Objective
from phaze_ee.sweep.process import ProjectProcess, trial_arguments
from phaze_ee.sweep.study import Attempt, SweepStudy
from phaze_ee.workspace import Project

Make = Callable[[Attempt], tuple[Project, Options]]


def run_trials(study: SweepStudy, make: Make, objective: Objective, workers: int) -> Iterator[Event]:
    """Run trials, ``workers`` at once, until there are no more; yield each as it ends, see run_jobs.

    Args:
        study: the source of the trials.
        make: writes the project of a trial, and returns it with its options.
        objective: what is recorded of a successful trial.
        workers: how many trials run at once.
    """
    return run_jobs(_Trials(study, make, objective), workers)


@final
class _Trials:
    def __init__(self, study: SweepStudy, make: Make, objective: Objective) -> None:
        self._study, self._make, self._objective = study, make, objective
        self._attempts: dict[Project, Attempt] = {}

    def next_job(self) -> Job | None:
        attempt = self._study.next_attempt()
        if attempt is None:
            return None
        project, options = self._make(attempt)
        self._attempts[project] = attempt
        return Job(project, trial_arguments(project, options), attempt.claim)

    def finish(self, job: Job, process: ProjectProcess) -> Event:
        value = None
        if process.status == 0:
            try:
                value = self._objective.of(job.project)
            except PhazeError as error:
                process.note(str(error))
        if value is not None and not math.isfinite(value):
            process.note(f"the objective is {value}")
            value = None
        self._study.finish(self._attempts.pop(job.project), value)
        return Event(job.project, value is not None, value)
