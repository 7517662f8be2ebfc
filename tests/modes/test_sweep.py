from pathlib import Path

import pytest

from phaze_ee.errors import RunError, UsageError
from phaze_ee.modes import show, sweep
from phaze_ee.modes.current import read_current
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.results.sweep import SweepResults
from phaze_ee.sweep.objective import Objective
from phaze_ee.workspace import Project
from tests.end_to_end.command import digest
from tests.modes.two_class_project import make_project
from tests.plots.undrawn import write_nothing

# Called as: -m phaze_ee -m chain -p Tops small_sweep_000 -o train_…
PROGRAM = """#!/bin/sh
case $7 in *_000) echo 'phaze_ee: error: the loss is not finite'; exit 1 ;; esac
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    return make_project(tmp_path, "c.epochs = 1", "c.seed = 1", "c.zero_epochs = 0")


@pytest.fixture
def untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that end at once; the objective is the trial's number."""
    program = tmp_path / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setattr("phaze_ee.sweep.process.sys.executable", str(program))
    monkeypatch.setattr(Objective, "of", lambda self, project: float(project.name[-1]) / 10)
    monkeypatch.setattr(sweep, "judging_jets", lambda session: 25)
    monkeypatch.setattr("phaze_ee.modes.plot.write_drawings", write_nothing)


def run(*settings: str, trials: int | None = None, study: str = "sweep") -> None:
    sweep.run(Session.open(Request("sweep", "Tops", "small", set=list(settings), trials=trials, study=study)))


def results(base: Project) -> SweepResults:
    return SweepResults.read(base.sweeps / "sweep" / "sweep_results.json", made_by="sweep")


def test_a_real_trial_is_a_project_that_compare_reads(base: Project, capsys: pytest.CaptureFixture[str]) -> None:
    run("lr=0.02,0.002")
    # Those of 40 that calibrate does not use.
    assert "of 19 validation jets, has an error of 0.11; other" in " ".join(capsys.readouterr().out.split())
    trial, _ = results(base).trials
    assert trial.error is None
    assert trial.objective is not None
    assert 19 * trial.objective == pytest.approx(round(19 * trial.objective))
    assert list(read_current(Project("Tops", trial.project)).static.evaluation.exits)[-1] == "full_model"
    assert {path.name for path in (base.sweeps / "sweep").glob("sweep.*")} == {"sweep.png", "sweep.pdf"}


def test_best_first_and_what_failed_says_why(
    base: Project, untrained: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run("exit_loss_strategy=mimic_flow,target_flow", "conv_params=[(4,(8,8)),(4,(8,8))],[(2,(8,8)),(4,(16,16))]")
    found = results(base)
    assert [trial.project[-3:] for trial in found.ranked] == ["003", "002", "001", "000"]
    assert found.trials[0].error == "the loss is not finite"
    printed = capsys.readouterr().out
    assert "small_sweep_000 failed: the loss is not finite" in printed
    table = printed[printed.index("Study sweep over small") :]
    assert table.index("small_sweep_003") < table.index("small_sweep_001") < table.index("small_sweep_000")
    assert max(map(len, table.split("Written")[0].splitlines())) <= 80
    best = "small_sweep_003 small_sweep_002 small_sweep_001"
    assert f"Compare the best: phaze_ee -m compare -p Tops all --projects {best}\n" in printed
    show.run(Session.open(Request("show", "Tops", "small")))
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if len(line) > 80 and str(base.root) not in line] == []
    shown = " ".join(shown.split())
    assert "sweep over exit_loss_strategy, conv_params: 4 trials (3 complete, 1 failed)" in shown
    assert "the best is project small_sweep_003 (0.3000)" in shown


@pytest.mark.parametrize(("jets", "error", "ties"), [(25, "0.092", "none"), (4, "0.23", "2")])
def test_trials_within_the_error_of_the_best_are_counted(
    jets: int,
    error: str,
    ties: str,
    base: Project,
    untrained: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sweep, "judging_jets", lambda session: jets)
    run("lr=0.01,0.02,0.03,0.04")  # the first fails; the objectives of the others are 0.1, 0.2 and 0.3
    printed = " ".join(capsys.readouterr().out.split())
    assert f"of {jets} validation jets, has an error of {error}; other trials within it: {ties}" in printed


def test_more_trials_later(base: Project, untrained: None) -> None:
    run("lr=0.01:0.1:log", trials=2)
    first = results(base).trials
    run("lr=0.01:0.1:log", trials=3)
    assert results(base).trials[:2] == first
    assert len(results(base).trials) == 3


def test_the_base_may_not_change_within_a_study(base: Project, untrained: None) -> None:
    run("lr=0.01,0.02")
    base.config.write_text(base.config.read_text() + "    c.epochs = 9\n")
    with pytest.raises(
        UsageError, match=r"the configuration of Tops/small: epochs was 1, is 9; choose another --study"
    ):
        run("lr=0.01,0.02")
    run("lr=0.01,0.02", study="longer")
    assert Project("Tops", "small_longer_001").config.is_file()


def test_when_all_fail_the_sweep_has_failed(base: Project, untrained: None) -> None:
    with pytest.raises(RunError, match=r"no trial succeeded \(of 1\)"):
        run("lr=0.01")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"set": ["lrr=1"]}, "did you mean 'lr'"),
        ({"set": ["lr=-1:1"]}, "greater than 0"),
        ({"set": ["epochs=1:4"]}, "valid integer"),
        ({"set": ["lr=1,2"], "objective": "speed"}, "neither full_model"),
        ({"set": ["lr=1,2"], "trials": 0}, "--trials 0"),
        ({"set": ["lr=1,2"], "workers": -1}, "--workers -1"),
        ({"set": ["lr=1,2"], "study": "a/b"}, "study name 'a/b' is not usable"),
        ({"set": ["lr=1,2"], "storage": "typo/s.journal"}, "typo does not exist; create it, or correct the name"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(
    base: Project, tmp_path: Path, request_: dict[str, object], expected: str
) -> None:
    before = digest(tmp_path)
    with pytest.raises(UsageError, match=expected):
        sweep.run(Session.open(Request("sweep", "Tops", "small", **request_)))  # type: ignore[arg-type]
    assert digest(tmp_path) == before


def test_without_optuna_the_extra_is_named(base: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'pip install "\.\[sweep\]"'):
        run("lr=1,2")
