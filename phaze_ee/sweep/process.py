"""A command line on one project as a separate process: when it dies, the command that started it continues."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from phaze_ee.config.options import TrainingOptions
from phaze_ee.errors import PreemptedError
from phaze_ee.results.training import TrainingHistory
from phaze_ee.workspace import Project

SWEEP_LOG = "sweep.log"
_KILL_SECONDS = 60.0
_PREEMPTED = (PreemptedError.exit_status, -signal.SIGTERM, -signal.SIGUSR1)


class ProjectProcess:
    """A running command line on one project. Its output goes to :func:`log_file`.

    Args:
        project: the project.
        arguments: of the command line.
        environment: variables in addition to those of this process.
        descriptor: the lock of the project, which the process holds until it ends.
        log: the name of the file of its output.
    """

    def __init__(
        self,
        project: Project,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        descriptor: int,
        log: str = SWEEP_LOG,
    ) -> None:
        self._project, self._log_name = project, log
        self._log = log_file(project, log)
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "phaze_ee", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                pass_fds=(descriptor,),
                start_new_session=True,  # Ctrl-C reaches only this process, which asks the others to save their state
            )

    @property
    def status(self) -> int | None:
        """The exit status; None while the trial is running."""
        return self._process.poll()

    @property
    def was_preempted(self) -> bool:
        """Whether the batch system has stopped the process, whose work then continues later."""
        return self.status in _PREEMPTED

    @property
    def full_disk(self) -> str | None:
        """The error of a process that failed because the disk is full, as the next one would; None: it did not."""
        error = last_line(self._project, self._log_name) if self.status else ""
        return error if os.strerror(errno.ENOSPC) in error else None

    def note(self, line: str) -> None:
        """Add a line to the log."""
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")

    def note_signal(self) -> None:
        """Add the signal that killed the process to the log."""
        if self.status is not None and self.status < 0:
            name = signal.Signals(-self.status).name
            self.note(f"killed by {name}" + ", often for lack of memory" * (name == "SIGKILL"))

    def ask_to_stop(self) -> None:
        """Ask the process to save its state and end."""
        self._process.terminate()

    def stop(self) -> None:
        """Wait until the process has ended; kill it if that takes too long."""
        try:
            self._process.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def trial_arguments(project: Project, training: TrainingOptions) -> list[str]:
    """Return the command line of a trial: what it still has to do."""
    operations = "evaluate_benchmark" if is_trained(project, training) else "train_evaluate_benchmark"
    return ["-m", "chain", "-p", project.workspace, project.name, "-o", operations]


def log_file(project: Project, name: str = SWEEP_LOG) -> Path:
    """Return the path of the output of all processes of a project."""
    return project.logs / name


def last_line(project: Project, log: str = SWEEP_LOG) -> str:
    """Return the last line that the process of a project printed; if it failed, its error."""
    try:
        lines = log_file(project, log).read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return "no output"
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output").removeprefix(
        "phaze_ee: error: "
    )


def is_trained(project: Project, training: TrainingOptions) -> bool:
    """Return whether the training of a project is complete."""
    if not (project.training_history.is_file() and project.best_model.is_file()):
        return False
    done = len(TrainingHistory.read(project.training_history, made_by="train").epochs)
    # A training that may stop early is complete if it left no state to resume: every epoch but the first starts with
    # one.
    stopped_early = 0 < training.early_stopping < done and not project.resume_point.is_file()
    return done >= training.epochs or stopped_early
