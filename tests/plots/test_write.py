"""Figures drawn in several processes."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from phaze_ee.errors import RunError
from phaze_ee.plots.curves import accuracy_figure
from phaze_ee.plots.style import Drawing
from phaze_ee.plots.write import write_drawings
from tests.plots.examples import training_history

MANY = 8  # enough for a second process


def drawings(folder: Path) -> dict[Path, Drawing]:
    return {folder / f"curves_{index}": partial(accuracy_figure, training_history()) for index in range(MANY)}


def killed() -> Figure:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def slow() -> Figure:
    Path(os.environ["STARTED"]).touch()
    time.sleep(600)
    raise AssertionError


def interrupted(folder: Path) -> None:
    """Draw for too long; run as a program of its own."""
    list(write_drawings({folder / str(index): slow for index in range(MANY)}))


def test_several_processes_write_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cores in (1, 2):
        monkeypatch.setattr("phaze_ee.plots.write.core_count", lambda cores=cores: cores)
        found = list(write_drawings(drawings(tmp_path / str(cores))))
        expected = [
            [stem.with_name(stem.name + end) for end in (".png", ".pdf")] for stem in drawings(tmp_path / str(cores))
        ]
        assert found == expected
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes()
