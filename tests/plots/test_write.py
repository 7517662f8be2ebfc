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
from phaze_ee.machine import core_count
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
    Path(os.environ["STARTED"], str(os.getpid())).touch()
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


def test_an_error_in_another_process_is_as_in_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phaze_ee.plots.write.core_count", lambda: 2)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(RunError, match=r"cannot write .*curves_\d"):
        list(write_drawings(drawings(tmp_path / "file")))


def test_a_killed_process_is_a_run_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phaze_ee.plots.write.core_count", lambda: 2)
    first, *others = drawings(tmp_path)
    with pytest.raises(RunError, match="process that draws figures died"):
        list(write_drawings({first: killed, **{stem: drawings(tmp_path)[stem] for stem in others}}))


def test_an_interrupt_ends_all_processes_quietly(tmp_path: Path) -> None:
    started = tmp_path / "started"
    started.mkdir()
    program = (
        "import sys, pathlib; from tests.plots.test_write import interrupted; interrupted(pathlib.Path(sys.argv[1]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "STARTED": str(started)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    # An interrupt before the second process is there does not reach it: then the first waits for its figure.
    while len(list(started.iterdir())) < min(core_count(), 2):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert error.count("Traceback") == 1  # of the main process, whose KeyboardInterrupt the command line reports
    assert error.rstrip().endswith("KeyboardInterrupt")
