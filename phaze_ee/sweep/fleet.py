"""Running the command line on several projects at once on this machine."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

import torch

from phaze_ee.errors import PreemptedError, RunError
from phaze_ee.machine import core_count
from phaze_ee.sweep.claim import Claim
from phaze_ee.sweep.process import SWEEP_LOG, ProjectProcess
from phaze_ee.workspace import Project

_POLL_SECONDS = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


@dataclass(frozen=True)
class Job:
    """A project, the command line that works on it, the lock of the process, and the name of the file of its output."""

    project: Project
    arguments: list[str]
    claim: Claim
    log: str = SWEEP_LOG


@dataclass(frozen=True)
class Event:
    """A process that has ended.

    Attributes:
        project: on which it worked.
        succeeded: whether it did what it was asked to do.
        objective: of a trial that succeeded.
        refused: whether it ended because of an error of the user, such as a wrong option.
    """

    project: Project
    succeeded: bool
    objective: float | None = None
    refused: bool = False


class Jobs(Protocol):
    """What a fleet has to do."""

    def next_job(self) -> Job | None:
        """Return what to start next; None if there is nothing more to start."""

    def finish(self, job: Job, process: ProjectProcess) -> Event:
        """Record the end of a process, release its lock, and return what became of it."""


@dataclass(frozen=True)
class _Running:
    job: Job
    process: ProjectProcess


def run_jobs(jobs: Jobs, workers: int) -> Iterator[Event]:
    """Run the jobs, ``workers`` at once, until there are no more; yield each as it ends.

    Several workers share the cores evenly. GPUs are assigned in turn, one to each worker.

    Args:
        jobs: the source of the work.
        workers: how many processes run at once.

    Raises:
        RunError: Ctrl-C was pressed, or the disk is full. As for the next error, running trainings have saved their
            state, and the same command continues them.
        PreemptedError: a batch system has stopped this process or one of the others.
        UsageError: another project has the name of one of these.
    """
    environments = worker_environments(workers)
    slots: list[_Running | None] = [None] * workers
    with _noting_signals() as received:
        try:
            while True:
                for index, running in enumerate(slots):
                    if running is not None and running.process.status is not None:
                        if running.process.was_preempted:
                            raise PreemptedError(f"{running.job.project} was stopped; the same command continues it")
                        if running.process.full_disk is not None:
                            raise RunError(f"{running.job.project}: {running.process.full_disk}")
                        slots[index] = None
                        yield _finish(jobs, running)
                    if slots[index] is None and (job := jobs.next_job()):
                        slots[index] = _start(job, environments[index])
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


def _start(job: Job, environment: Mapping[str, str]) -> _Running:
    return _Running(job, ProjectProcess(job.project, job.arguments, environment, job.claim.descriptor, job.log))


def _finish(jobs: Jobs, running: _Running) -> Event:
    running.process.note_signal()
    return jobs.finish(running.job, running.process)


def _stop(running: Iterator[_Running]) -> None:
    """Stop all running processes; the same command can continue their work later."""
    left = list(running)
    for one in left:
        one.process.ask_to_stop()
    for one in left:
        one.process.stop()
        os.close(one.job.claim.descriptor)


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
        raise RunError("interrupted; the same command goes on with what was running")
    if received:
        raise PreemptedError(f"stopped by {signal.Signals(received[0]).name}; the same command goes on")
