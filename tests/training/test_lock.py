"""Two trainings of one project, and what a killed one leaves behind."""

import multiprocessing
import os
import signal
import socket
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from phaze_ee.errors import RunError, UsageError
from phaze_ee.training.lock import training_lock

SPAWN = multiprocessing.get_context("spawn")


def hold(path: Path, held: Event) -> None:
    with training_lock(path):
        held.set()
        signal.pause()


def test_a_second_training_is_told_who_holds_the_project(tmp_path: Path) -> None:
    path, held = tmp_path / "train.lock", SPAWN.Event()
    process = SPAWN.Process(target=hold, args=(path, held))
    process.start()
    assert held.wait(30)
    with pytest.raises(UsageError, match=f"process {process.pid} on {socket.gethostname()}"), training_lock(path):
        pass
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with training_lock(path):  # what is left of the killed process blocks nobody
        pass


def test_the_project_is_free_after_the_training(tmp_path: Path) -> None:
    for _ in range(2):
        with training_lock(tmp_path / "train.lock"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("a file")
    with pytest.raises(RunError, match="cannot lock"), training_lock(tmp_path / "output" / "train.lock"):
        pass
