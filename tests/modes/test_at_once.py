"""Two commands at once that add to one file: nothing of either is lost."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from phaze_ee.exits.targets import Agreement
from phaze_ee.locks import held
from phaze_ee.prediction.watched import MonitorResults
from phaze_ee.workspace import Project
from tests.modes.predicting import notes, predict
from tests.modes.test_monitor import Capture, monitor, promise
from tests.modes.test_monitor_adapt import steps as steps
from tests.modes.test_predict import halves
from tests.modes.two_class_project import write_jets


@contextmanager
def another(lock: Path, what: str, work: Callable[[], object]) -> Iterator[None]:
    """While the body runs, another command has the lock, works, and ends."""
    begun = threading.Event()

    def run() -> None:
        with held(lock, what):
            begun.set()
            threading.Event().wait(0.5)
            work()

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(30)
    yield
    thread.join()


def test_two_monitors_of_one_state(project: Project, tmp_path: Path, capsys: Capture) -> None:
    promise(project, halves(tmp_path / "val.root"), Agreement(epsilon=0.99))
    for number in range(2):
        write_jets(tmp_path / f"jets_{number}.root", np.arange(100 + number) % 2)
    assert predict("--audit", "0.5", "--files", tmp_path / "jets_*.root") == 0
    state = project.results / "monitor.json"
    assert monitor("--files", project.predictions / "jets_0.root") == 0
    first = state.read_text()
    state.unlink()
    capsys.readouterr()
    with another(project.results / ".monitor.lock", "monitor", lambda: state.write_text(first)):
        assert monitor("--files", project.predictions / "jets_1.root") == 0
    printed = capsys.readouterr().out
    assert printed.count("Waiting: another monitor") == 1
    assert "New: 1 of 1 file" in notes(printed)
    files = MonitorResults.read(state, made_by="monitor").files
    assert [file.losses.jets for file in files] == [100, 101]


@pytest.mark.usefixtures("steps")
def test_a_monitor_of_another_state_moves_the_same_policy(project: Project, tmp_path: Path, capsys: Capture) -> None:
    assert predict("--audit", "1", "--files", tmp_path / "jets_0.root") == 0
    with another(project.policies / ".adapted.lock", "monitor", lambda: None):
        assert monitor("--adapt", "--files", project.predictions / "jets_0.root") == 0
    assert "Waiting: another monitor" in capsys.readouterr().out
