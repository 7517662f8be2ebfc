"""Trainings by the command that stop at a chosen place: killed, out of disk, or told to stop."""

import errno
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

import phaze_ee.data.warm_up
import phaze_ee.modes.train  # noqa: F401 - once, before the children
from phaze_ee.cli import main
from phaze_ee.training.module import TaggerModule

TRAIN = ("-m", "train", "-p", "Tops", "small")

# Children start from a process in which everything is imported, and without the threads of this one.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.end_to_end.dying"])

Action = Callable[[], None]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def at_call(patch: pytest.MonkeyPatch, owner: Any, name: str, number: int, action: Action) -> None:
    """Let something happen before the ``number``-th call of a method."""
    original, calls = getattr(owner, name), [0]

    def called(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            action()
        return original(*arguments, **keywords)

    patch.setattr(owner, name, called)


def amid_write(patch: pytest.MonkeyPatch, name: str, number: int, action: Action) -> None:
    """Let something happen when half of a file is written, at the ``number``-th file with this name."""
    original, calls = Path.write_bytes, [0]

    def write(path: Path, content: Any) -> int:
        calls[0] += path.name.startswith(f".{name}")
        if calls[0] == number and path.name.startswith(f".{name}"):
            original(path, bytes(content)[: len(content) // 2])
            action()
        return original(path, content)

    patch.setattr(Path, "write_bytes", write)


def between_renames(patch: pytest.MonkeyPatch, number: int) -> None:
    """Kill the process when the last state is set aside, and the next has not yet its name."""
    original, calls = Path.replace, [0]

    def replace(path: Path, target: Path) -> Path:
        moved = original(path, target)
        calls[0] += Path(target).name.startswith("resume_previous")
        if calls[0] == number:
            kill()
        return moved

    patch.setattr(Path, "replace", replace)


# Epochs have three batches, one validation batch or two, and three states: after two batches, before and after the
# validation.
KILLS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "before the first state": lambda patch: at_call(patch, TaggerModule, "training_step", 2, kill),
    "in an epoch": lambda patch: at_call(patch, TaggerModule, "training_step", 6, kill),
    "in a validation": lambda patch: at_call(patch, TaggerModule, "validation_step", 3, kill),
    "amid the first state": lambda patch: amid_write(patch, "resume", 1, kill),
    "before the first validation": lambda patch: amid_write(patch, "resume", 2, kill),
    "after the first models": lambda patch: amid_write(patch, "resume", 3, kill),
    "amid a state": lambda patch: amid_write(patch, "resume", 6, kill),
    "amid a model": lambda patch: amid_write(patch, "latest_model", 2, kill),
    "amid the best model": lambda patch: amid_write(patch, "best_model", 1, kill),
    "between renames": lambda patch: between_renames(patch, 3),
}


def _run(place: str, folder: Path) -> None:
    os.environ["PHAZE_EE_WORKSPACES"] = str(folder)
    with pytest.MonkeyPatch.context() as patch:
        KILLS[place](patch)
        os._exit(main(TRAIN))


def _hold(folder: Path, running: Any) -> None:
    os.environ["PHAZE_EE_WORKSPACES"] = str(folder)

    def wait() -> None:
        running.set()
        signal.pause()

    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, TaggerModule, "training_step", 1, wait)
        main(TRAIN)


def killed_training(place: str, folder: Path) -> int | None:
    """Train in a process that kills itself at a place of ``KILLS``; return its exit code."""
    process = _CONTEXT.Process(target=_run, args=(place, folder))
    process.start()
    process.join(120)
    return process.exitcode


def running_training(folder: Path) -> BaseProcess:
    """Start a training in a process of its own, and return when it stands in its first batch."""
    running = _CONTEXT.Event()
    process = _CONTEXT.Process(target=_hold, args=(folder, running))
    process.start()
    assert running.wait(120)
    return process
