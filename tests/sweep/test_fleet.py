"""Trials in processes of their own; a shell script plays the part of the program."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from phaze_ee.config.load import load_options
from phaze_ee.config.options import Options
from phaze_ee.errors import PreemptedError, RunError
from phaze_ee.sweep.fleet import worker_environments
from phaze_ee.sweep.objective import Objective
from phaze_ee.sweep.process import last_line
from phaze_ee.sweep.space import parse_space
from phaze_ee.sweep.storage import open_study
from phaze_ee.sweep.study import Attempt, SweepStudy
from phaze_ee.sweep.trials import run_trials
from phaze_ee.workspace import Project

CONFIG = "def set_config(c):\n    c.train_files = c.val_files = ['*.root']\n"
# The program is called as: -m phaze_ee -m chain -p W trial_0 -o train_…
PROGRAM = """#!/bin/sh
echo "$9" >> runs
case $7 in
trial_1) echo 'phaze_ee: error: no memory left' >&2; exit 1 ;;
trial_2) kill -9 $$ ;;
esac
"""


class Fixed(Objective):
    """Knows the answer without a training."""

    def of(self, project: Project) -> float:
        return float(project.name[-1])


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepStudy:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    use_program(tmp_path, monkeypatch, PROGRAM)
    return opened(tmp_path)


def use_program(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "program").write_text(text)
    (folder / "program").chmod(0o755)
    monkeypatch.setattr("phaze_ee.sweep.process.sys.executable", str(folder / "program"))


def opened(folder: Path) -> SweepStudy:
    study, seed = open_study(str(folder / "study.journal"), "s", folder, {}, seed=1)
    return SweepStudy(study, folder, parse_space(["lr=0.1,0.2,0.3,0.4"]), seed, limit=4)


def make(attempt: Attempt) -> tuple[Project, Options]:
    project = Project("W", f"trial_{attempt.number}")
    project.config.parent.mkdir(parents=True, exist_ok=True)
    project.logs.mkdir(parents=True, exist_ok=True)
    project.config.write_text(CONFIG)
    return project, load_options(project.config)


@pytest.mark.parametrize("workers", [1, 3])
def test_what_goes_wrong_in_a_trial_ends_that_trial_alone(study: SweepStudy, workers: int) -> None:
    events = list(run_trials(study, make, Fixed("exits"), workers))
    assert {event.project.name[-1]: event.objective for event in events} == {"0": 0, "1": None, "2": None, "3": 3}
    assert last_line(Project("W", "trial_1")) == "no memory left"
    assert last_line(Project("W", "trial_2")) == "killed by SIGKILL, often for lack of memory"
    assert [trial.state.name for trial in study.trials()] == ["COMPLETE", "FAIL", "FAIL", "COMPLETE"]
    assert Path("runs").read_text() == "train_evaluate_benchmark\n" * 4


def test_an_objective_that_is_no_number_is_a_failure(study: SweepStudy) -> None:
    class Lost(Objective):
        def of(self, project: Project) -> float:
            return float("nan")

    assert next(run_trials(study, make, Lost("exits"), 1)).objective is None
    assert last_line(Project("W", "trial_0")) == "the objective is nan"


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, RunError), (signal.SIGTERM, PreemptedError)])
def test_interrupted_it_lets_trials_save_themselves_and_goes_on_with_them(
    study: SweepStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, error: type[Exception]
) -> None:
    slow = "#!/bin/sh\ntrap 'echo saved; exit 85' TERM\ntouch started\nwhile :; do sleep 0.05; done\n"
    use_program(tmp_path, monkeypatch, slow)

    def interrupt() -> None:
        while not Path("started").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    # Tests that run in the background inherit that Ctrl-C is ignored, and a sweep would ignore it as well.
    before = signal.signal(number, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(error):
            list(run_trials(study, make, Fixed("exits"), 1))
    finally:
        signal.signal(number, before)
    thread.join()
    assert last_line(Project("W", "trial_0")) == "saved"
    use_program(tmp_path, monkeypatch, PROGRAM)
    events = list(run_trials(opened(tmp_path), make, Fixed("exits"), 1))
    assert [event.project.name for event in events] == [f"trial_{index}" for index in range(4)]


def test_a_trial_that_the_batch_system_stops_stops_the_sweep(
    study: SweepStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_program(tmp_path, monkeypatch, "#!/bin/sh\nexit 85\n")
    with pytest.raises(PreemptedError, match="W/trial_0 was stopped"):
        list(run_trials(study, make, Fixed("exits"), 1))
    assert [trial.state.name for trial in study.trials()] == ["RUNNING"]


def test_a_full_disk_stops_the_sweep_which_then_goes_on_with_its_trial(
    study: SweepStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = "cannot write resume.ckpt: No space left on device; free space"
    use_program(tmp_path, monkeypatch, f"#!/bin/sh\necho 'phaze_ee: error: {error}'\nexit 1\n")
    with pytest.raises(RunError, match=f"W/trial_0: {error}"):
        list(run_trials(study, make, Fixed("exits"), 1))
    assert [trial.state.name for trial in study.trials()] == ["RUNNING"]
    use_program(tmp_path, monkeypatch, PROGRAM)
    events = list(run_trials(opened(tmp_path), make, Fixed("exits"), 1))
    assert [event.project.name for event in events] == [f"trial_{index}" for index in range(4)]


def test_workers_share_processors_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-b")
    assert worker_environments(1) == [{}]
    environments = worker_environments(3)
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in environments] == ["4", "GPU-b", "4"]
    assert {environment["OMP_NUM_THREADS"] for environment in environments} == {"3"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert worker_environments(2) == [{"OMP_NUM_THREADS": "3"}] * 2
