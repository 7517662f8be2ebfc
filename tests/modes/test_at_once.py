"""Two commands at once that add to one file: nothing of either is lost."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phaze_ee.exits.targets import Agreement
from phaze_ee.locks import held
from phaze_ee.modes import predict as predict_mode
from phaze_ee.modes.predicted_files import collected
from phaze_ee.prediction.drift_report import DriftReport
from phaze_ee.prediction.watched import MonitorResults
from phaze_ee.workspace import Project
from tests.modes.exit_policies import write_policy
from tests.modes.predicting import every_exit, notes, predict
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


def test_two_predictions_with_one_report_of_drift(
    project: Project, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(project, halves(tmp_path / "val.root"), every_exit(tmp_path / "val.root"))
    write_jets(tmp_path / "jets.root", np.arange(100) % 2)
    both = [tmp_path / "val.root", tmp_path / "jets.root"]
    report = project.predictions / "drift.json"
    assert predict("--monitor", "--files", *both) == 0
    first = report.read_text()
    report.unlink()
    write_jets(tmp_path / "more.root", np.arange(101) % 2)

    def then_another_ends(*arguments: Any) -> Any:
        made = collected(*arguments)
        report.write_text(first)  # after this command began, and before it ends
        return made

    monkeypatch.setattr(predict_mode, "collected", then_another_ends)
    with another(project.predictions / ".drift.lock", "predict --monitor", lambda: None):
        assert predict("--monitor", "--files", tmp_path / "val.root", tmp_path / "more.root") == 0
    assert "241 jets against 40 of the calibration (3 files, 1 new)" in notes(printed := capsys.readouterr().out)
    assert printed.count("Waiting: another predict --monitor") == 1
    found = DriftReport.read(report, made_by="predict")
    assert [Path(file.path).name for file in found.files] == ["jets.root", "val.root", "more.root"]
    assert found.jets == found.observed.jets == 241


@pytest.mark.usefixtures("steps")
def test_a_monitor_of_another_state_moves_the_same_policy(project: Project, tmp_path: Path, capsys: Capture) -> None:
    assert predict("--audit", "1", "--files", tmp_path / "jets_0.root") == 0
    with another(project.policies / ".adapted.lock", "monitor", lambda: None):
        assert monitor("--adapt", "--files", project.predictions / "jets_0.root") == 0
    assert "Waiting: another monitor" in capsys.readouterr().out
