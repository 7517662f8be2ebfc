"""Running several trials at once on this machine."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch

from phaze_ee.config.options import Options
from phaze_ee.errors import PhazeError, PreemptedError, RunError
from phaze_ee.machine import core_count
from phaze_ee.sweep.objective import Objective
from phaze_ee.sweep.process import TrialProcess
from phaze_ee.sweep.study import Attempt, SweepStudy
from phaze_ee.workspace import Project

_POLL_SECONDS = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
Make = Callable[[Attempt], tuple[Project, Options]]


@dataclass(frozen=True)
class _Running:
    attempt: Attempt
    project: Project
    process: TrialProcess


@dataclass(frozen=True)
class Event:
    """A trial that has ended; it failed if it has no objective."""

    project: Project
    objective: float | None


def run_trials(study: SweepStudy, make: Make, objective: Objective, workers: int) -> Iterator[Event]:
    """Run trials, ``workers`` at once, until there are no more; yield each as it ends.

    Several workers share the cores evenly. GPUs are assigned in turn, one to each worker.

    Args:
        study: the source of the trials.
        make: writes the project of a trial, and returns it with its options.
        objective: what is recorded of a successful trial.
        workers: how many trials run at once.

    Raises:
        RunError: Ctrl-C was pressed. As for the next error, running trials have saved their state, and the same
            sweep continues them.
        PreemptedError: a batch system has stopped this process or one of its trials.
        UsageError: another project has the name of a trial.
    """
    environments = worker_environments(workers)
    slots: list[_Running | None] = [None] * workers
    with _noting_signals() as received:
        try:
            while True:
                for index, running in enumerate(slots):
                    if running is not None and running.process.status is not None:
                        if running.process.was_preempted:
                            raise PreemptedError(f"{running.project} was stopped; the same command continues it")
                        slots[index] = None
                        yield _finish(study, running, objective)
                    if slots[index] is None and (attempt := study.next_attempt()):
                        slots[index] = _start(attempt, make, environments[index])
                if not any(slots):
                    return
                _check(received)
                time.sleep(_POLL_SECONDS)
        finally:
            _stop(running for running in slots if running is not None)


def worker_environments(workers: int) -> list[dict[str, str]]:
    """Return the environment variables for each worker, which share out cores and GPUs."""
    if workers == 1:
        return [{}]
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, core_count() // workers)))
    environments = [{"OMP_NUM_THREADS": threads} for _ in range(workers)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(torch.cuda.device_count()))))
    devices = [device for device in visible.split(",") if device]
    for index, environment in enumerate(environments if devices else []):
        environment["CUDA_VISIBLE_DEVICES"] = devices[index % len(devices)]
    return environments


def _start(attempt: Attempt, make: Make, environment: Mapping[str, str]) -> _Running:
    project, options = make(attempt)
    return _Running(attempt, project, TrialProcess(project, options, environment, attempt.claim.descriptor))


def _finish(study: SweepStudy, running: _Running, objective: Objective) -> Event:
    process, project = running.process, running.project
    value = None
    if process.status == 0:
        try:
            value = objective.of(project)
        except PhazeError as error:
            process.note(str(error))
    process.note_signal()
    if value is not None and not math.isfinite(value):
        process.note(f"the objective is {value}")
        value = None
    study.finish(running.attempt, value)
    return Event(project, value)


def _stop(running: Iterator[_Running]) -> None:
    """Stop all running trials; the sweep can continue them later."""
    left = list(running)
    for trial in left:
        trial.process.ask_to_stop()
    for trial in left:
        trial.process.stop()
        os.close(trial.attempt.claim.descriptor)


@contextmanager
def _noting_signals() -> Iterator[list[int]]:
    """Collect signals; their default action could end this process while it is writing."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    heeded = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {number: signal.signal(number, note) for number in heeded}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check(received: list[int]) -> None:
    if signal.SIGINT in received:
        raise RunError("interrupted; the same command goes on with the trials that were running")
    if received:
        raise PreemptedError(f"stopped by {signal.Signals(received[0]).name}; the same command goes on")
