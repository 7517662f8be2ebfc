"""Files of jets that vanish, break or change while a training reads them, and processes that die reading them."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from phaze_ee.cli import main
from phaze_ee.data import loaders
from phaze_ee.data import spans as chunks
from phaze_ee.training.module import TaggerModule
from phaze_ee.workspace import Project
from tests.end_to_end import dying
from tests.end_to_end.command import fails
from tests.end_to_end.dying import TRAIN
from tests.modes.two_class_project import make_project, write_jets

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose training files do not fit into memory, as far as the loader believes."""
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    monkeypatch.setattr(loaders, "MEMORY_LIMIT", 0)
    monkeypatch.setattr(loaders, "TRAINING_ROWS", 8)
    project = make_project(
        tmp_path,
        "c.epochs = 3",
        "c.zero_epochs = 0",
        "c.tensorboard = False",
        f"c.train_files = [{str(tmp_path / 'train.root')!r}]",
    )
    shutil.copy(tmp_path / "val.root", tmp_path / "train.root")
    return project


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def rewrite(path: Path) -> None:
    write_jets(path, np.arange(40)[::-1] % 2)


def shorten(path: Path) -> None:
    write_jets(path, np.arange(30) % 2)


@pytest.mark.parametrize("name", ["train.root", "val.root"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Path.unlink, "does not exist (any more)"),
        (truncate, "cannot read"),
        (shorten, "changed while it was in use"),
        (rewrite, "changed while it was in use"),
    ],
)
def test_a_file_during_training(
    project: Project,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    change: Callable[[Path], None],
    expected: str,
) -> None:
    path = tmp_path / name
    kept = path.read_bytes()
    dying.at_call(monkeypatch, TaggerModule, "training_step", 5, lambda: change(path))
    text = fails(capsys, 2, *TRAIN)
    assert str(path) in text
    assert expected in text
    assert project.resume_point.is_file()
    path.write_bytes(kept)
    assert main([*TRAIN, "--fresh", "--yes"]) == 0


def children() -> list[int]:
    """Return the processes that read, as the training sees them."""
    return [process.pid for process in multiprocessing.active_children() if process.pid is not None]


def test_a_reader_that_dies_during_training(project: Project, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "WORKER_ROWS", 0)
    project.config.write_text(project.config.read_text() + "    c.num_workers = 1\n")
    killed: list[int] = []

    def kill_readers() -> None:
        killed.extend(children())
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    dying.at_call(monkeypatch, TaggerModule, "training_step", 4, kill_readers)
    start = time.monotonic()
    text = fails(capsys, 1, *TRAIN)
    assert killed
    assert text.startswith("a process that reads data died: ")
    assert time.monotonic() - start < 60
