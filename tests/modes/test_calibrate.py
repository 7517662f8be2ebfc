"""Mode calibrate on a small project: what it writes, says and refuses."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phaze_ee.cli import main
from phaze_ee.errors import DataError, NothingPassedError, RunError, UsageError, shortened
from phaze_ee.exits.observables import FRACTIONS, JET_PT
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.modes import calibrate, evaluate, train
from phaze_ee.modes.session import Session
from phaze_ee.results.policy import DynamicResults
from phaze_ee.workspace import Project
from tests.modes.predicting import change_yaml
from tests.modes.two_class_project import make_project, request, save_best_model, write_jets

JETS = 300


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    return tmp_path


def trained_project(folder: Path, *lines: str) -> Project:
    write_jets(folder / "calibration.root", np.arange(JETS) % 2)
    own = f"c.calibration_files = [{str(folder / 'calibration.root')!r}]"
    project = make_project(folder, 'c.background = "is_qcd"', own, *lines)
    save_best_model(project)
    return project


def run(**flags: object) -> None:
    calibrate.run(Session.open(replace(request("calibrate"), flags=flags)))


def policy_of(project: Project) -> ExitPolicyFile:
    return ExitPolicyFile.read(project.exit_policy, made_by="calibrate")


def test_the_policy_file_holds_what_was_asked_and_what_was_found(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = trained_project(folder, "c.seed = 5")
    run(exit_target="agreement", epsilon=0.3, exit_score="margin")
    file = policy_of(project)
    assert (file.target.name, file.score.name) == ("agreement", "margin")
    assert file.guarantee.holds
    assert "at most 0.3 of the jets get another class" in file.guarantee.statement
    assert (file.calibration.jets, file.calibration.shaping, file.calibration.testing) == (JETS, 120, 180)
    assert (file.calibration.seed, file.calibration.held_out_of_validation) == (5, False)
    assert file.model_hash == Session.open(request("calibrate")).model.hash
    assert sum(file.realised["files"].exit_shares.values()) == pytest.approx(1.0)
    assert file.reference.jets == 180
    assert file.reference.untested == [JET_PT, *FRACTIONS], "the data configuration has no four-momenta"
    assert [curve.score.name for curve in file.curves] == ["confidence", "entropy", "margin", "patience", "gate"]
    printed = [line for line in capsys.readouterr().out.splitlines() if str(folder) not in line]
    assert max(map(len, printed)) <= 80


@pytest.mark.parametrize("fit_temperatures", [True, False])
def test_the_policy_fits_the_tagger(folder: Path, fit_temperatures: bool) -> None:
    project = trained_project(folder, f"c.fit_temperatures = {fit_temperatures}")
    run(exit_target="accuracy_drop", epsilon=0.4)
    policy = policy_of(project).policy()
    policy.check(len(Session.open(request("calibrate")).model.tagger.exit_stages))
    assert (policy.temperatures is not None) == fit_temperatures


def test_a_prior_is_reported_beside_the_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = trained_project(folder, 'c.class_prior = {"is_qcd": 0.999, "is_top": 0.001}')
    run(exit_target="budget", cost_budget=0.6)
    realised = policy_of(project).realised
    assert realised["prior"].class_shares == {"is_qcd": 0.999, "is_top": 0.001}
    assert realised["prior"].cost_share != realised["files"].cost_share
    printed = capsys.readouterr().out
    assert "share, 99.9 % is_qcd" in printed
    assert "jets test the policy; the same jets chose it" in printed
    run(exit_target="agreement", epsilon=0.4)  # which alone needs no labels
    assert policy_of(project).realised["prior"].class_shares == {"is_qcd": 0.999, "is_top": 0.001}


def test_too_few_jets_give_the_full_model_and_a_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = trained_project(folder)
    with pytest.raises(RunError, match=r"accuracy_drop: no exit saves anything .*policy is now the full model"):
        run(exit_target="accuracy_drop", epsilon=0.001)
    file = policy_of(project)
    assert file.policy().exits == ()
    assert not file.guarantee.holds
    printed = capsys.readouterr().out
    assert "limit at" not in printed  # the full model loses nothing, which is not what did not pass
    assert json.loads(project.exit_policy.read_text())["thresholds"] == [float("inf")] * 2


def test_the_figures_of_all_failed_tests_are_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained_project(folder)
    with pytest.raises(RunError, match="no policy keeps the target agreement") as raised:
        run(exit_target="agreement", epsilon=0.02, promise_bins=["jet_id:0,40,80,120,160,200,240,280"])
    assert len(shortened(str(raised.value))) < len(str(raised.value))
    printed = " ".join(capsys.readouterr().out.split())
    reason = str(raised.value).split(": ", 1)[1].split("; the active policy")[0]
    assert f"Reason: {reason}" in printed


def test_without_files_of_its_own_it_takes_what_training_left(folder: Path) -> None:
    project = make_project(folder, 'c.background = "is_qcd"', f"c.train_files = [{str(folder / 'train.root')!r}]")
    write_jets(folder / "train.root", np.arange(10) % 2)
    save_best_model(project)
    run(exit_target="agreement", epsilon=0.5)
    file = policy_of(project)
    assert file.calibration.held_out_of_validation
    assert file.calibration.jets == 21  # every other of forty, by the golden ratio
    assert any("the training used some of these jets to choose its best epoch" in note for note in file.notes)


def test_jets_of_the_training_or_the_test_are_refused(folder: Path) -> None:
    make_project(folder)
    save_best_model(Project("Tops", "small"))
    with pytest.raises(UsageError, match=r"val\.root is both a calibration file and one of train_files"):
        run(exit_target="agreement")


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("calibrate", "val.root is both a calibration file and one of train_files"),
        ("place", "val.root in train_files and in val_files: figures from jets that the network has learned"),
    ],
)
def test_a_chain_refuses_shared_files_before_it_trains(
    folder: Path, capsys: pytest.CaptureFixture[str], mode: str, message: str
) -> None:
    project = make_project(folder)  # its jets to train and to validate are those of one file
    assert main(["-m", "chain", "-p", "Tops", "small", "-o", f"train_{mode}"]) == 2
    assert message in capsys.readouterr().err
    assert not project.models.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--target", "signal_efficiency"),
            "needs c.background, the class that the cut rejects, and c.signal (--signal), the class that it keeps; "
            "choose from one, other",
        ),
        (("--target", "signal_efficiency", "--signal", "third"), "needs c.background, the class"),
        (("--target", "agreement", "--bins", "jet_mass:0,100"), "has no branch jet_mass"),
        (("--target", "budget", "--bins", "jet_id:0,100"), "no part of the jets has a promise of its own"),
    ],
)
def test_a_chain_refuses_what_calibrate_lacks_before_it_trains(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    write_jets(folder / "calibration.root", np.arange(JETS) % 2)
    project = make_project(folder, f"c.calibration_files = [{str(folder / 'calibration.root')!r}]")
    change_yaml(folder, "value: [is_qcd, is_top]", "value: [is_qcd, is_top], names: [one, other]")
    assert main(["-m", "chain", "-p", "Tops", "small", "-o", "train_calibrate", *flags]) == 2
    assert message in capsys.readouterr().err
    assert not project.models.exists()


def test_a_chain_refuses_an_option_of_another_target_before_it_trains(folder: Path) -> None:
    project = trained_project(folder)
    before = project.best_model.read_bytes()
    flags = ("--target", "agreement", "--budget", "0.5")
    assert main(["-m", "chain", "-p", "Tops", "small", "-o", "train_calibrate", *flags]) == 2
    assert project.best_model.read_bytes() == before


@pytest.mark.parametrize("operations", ["evaluate_plot", "train_evaluate_plot_benchmark"])
def test_a_chain_refuses_a_plot_without_results_before_anything_runs(
    folder: Path, capsys: pytest.CaptureFixture[str], operations: str
) -> None:
    project = trained_project(folder)
    before = project.best_model.read_bytes()
    assert main(["-m", "chain", "-p", "Tops", "small", "-o", operations]) == 2
    message = (
        f"plot reads the results of benchmark, which -o {operations} does not run before it; put benchmark before plot"
    )
    assert message in capsys.readouterr().err
    assert project.best_model.read_bytes() == before
    assert not project.evaluation_results.exists()


def test_no_jets_at_all_are_refused(folder: Path) -> None:
    make_project(folder, "c.calibration_share = 0.0")
    save_best_model(Project("Tops", "small"))
    with pytest.raises(UsageError, match="there are no calibration jets"):
        run()


def test_a_working_point_needs_its_classes(folder: Path) -> None:
    trained_project(folder)
    with pytest.raises(UsageError, match=r"needs c\.signal \(--signal\), the class that it keeps; choose from is_top"):
        run(exit_target="signal_efficiency")
    with pytest.raises(UsageError, match="signal 'is_tap' is not a class"):
        run(exit_target="signal_efficiency", signal="is_tap")
    write_jets(folder / "calibration.root", np.zeros(50, dtype=int))
    with pytest.raises(DataError, match="hold no jet of is_top"):
        run(exit_target="signal_efficiency", signal="is_top")


def test_a_wrong_flag_is_told_as_one(folder: Path) -> None:
    trained_project(folder)
    with pytest.raises(UsageError, match=r"^the command line: epsilon: Input should be less than 1 \(got 2\)"):
        run(epsilon=2)


def test_a_policy_of_another_model_is_refused(folder: Path) -> None:
    project = trained_project(folder)
    run(exit_target="agreement", epsilon=0.3)
    save_best_model(project, seed=99)
    with pytest.raises(UsageError, match=r"calibrated for another model, or for .*best_model\.pt .* trained again"):
        ExitPolicyFile.load(project.exit_policy, Session.open(request("calibrate")).model.hash)


def test_a_network_without_exits_has_nothing_to_calibrate(folder: Path) -> None:
    project = trained_project(folder, "c.num_exit_points = 0", "c.beta_max = []")
    with pytest.raises(UsageError, match="a network without exits"):
        run()
    project.best_model.unlink()
    assert main(["-m", "chain", "-p", "Tops", "small", "-o", "train_calibrate"]) == 2
    assert not project.best_model.exists(), "told before the training starts"


def test_a_chain_that_begins_with_retrofit_refuses_early(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jets(folder / "calibration.root", np.arange(JETS) % 2)
    project = make_project(folder, f"c.calibration_files = [{str(folder / 'calibration.root')!r}]")
    flags = ("--target", "signal_efficiency")
    assert main(["-m", "chain", "-p", "Tops", "small", "-o", "retrofit_calibrate", *flags]) == 2
    assert "c.background, the class that the cut rejects, and c.signal" in capsys.readouterr().err
    assert not project.models.exists()


def test_flags_of_another_target_are_refused_and_titles_do_for_labels(folder: Path) -> None:
    trained_project(folder)
    with pytest.raises(UsageError, match="is for the target budget, and the target is accuracy_drop"):
        run(cost_budget=0.3)
    with pytest.raises(UsageError, match="'is_qcd' is the background of the cut"):
        run(exit_target="signal_efficiency", signal="is_qcd")


def test_costs_are_shares_of_the_full_model_without_exits(folder: Path) -> None:
    project = trained_project(folder)
    with pytest.raises(RunError):  # nothing passes
        run(exit_target="accuracy_drop", epsilon=0.0001)
    assert policy_of(project).realised["files"].cost_share == pytest.approx(1.0)


def test_a_promise_in_bins_is_recorded_and_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = trained_project(folder)
    run(exit_target="agreement", epsilon=0.3, promise_bins=["jet_nparticles:5,20", "jet_id:0,150,290,300"])
    promise = policy_of(project).guarantee
    assert promise.conditions.bins == {"jet_nparticles": [5, 20], "jet_id": [0, 150, 290, 300]}
    assert [risk.name.partition(", ")[2] for risk in promise.risks] == [
        "", "jet_nparticles 5 to 20", "jet_id 0 to 150", "jet_id 150 to 290",
    ]  # fmt: skip
    (untested,) = promise.untested
    assert (untested.part, promise.multiplicity) == ("jet_id 290 to 300", "fixed_sequence")
    printed = capsys.readouterr().out
    assert f"290 to 300: {untested.jets} jets test it and {untested.needed} would do" in printed
    assert max(map(len, (line for line in printed.splitlines() if str(folder) not in line))) <= 80
    evaluate.run(Session.open(request("evaluate")))
    dynamic = DynamicResults.read(project.dynamic_results, made_by="evaluate")
    assert [risk.name for risk in dynamic.policy.risks] == [
        "other answers", "other answers, jet_nparticles 5 to 20", "other answers, jet_id 0 to 150",
    ]  # fmt: skip
    assert (project.efficiencies / "is_top_jet_id.yaml").is_file()


def test_an_observable_that_is_not_there(folder: Path) -> None:
    trained_project(folder)
    with pytest.raises(DataError, match="has no branch jet_mass"):
        run(exit_target="agreement", epsilon=0.3, promise_bins=["jet_mass:0,100"])


def test_each_class_needs_labels_also_where_the_target_does_not(folder: Path) -> None:
    project = trained_project(folder)
    run(exit_target="agreement", epsilon=0.4, promise_per_class=True)
    assert [risk.name for risk in policy_of(project).guarantee.risks[1:]] == [
        "other answers, is_qcd",
        "other answers, is_top",
    ]


def test_a_plan_uses_other_jets_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = trained_project(folder)
    write_jets(folder / "val.root", np.arange(400) % 2)
    session = Session.open(replace(request("calibrate"), plan=True, flags={"exit_target": "agreement", "epsilon": 0.3}))
    calibrate.run(session)
    printed = capsys.readouterr().out
    assert "Pilot:  400 validation jets that calibrate does not use" in printed
    assert "Plan: about " in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert not project.exit_policy.is_file()
    hopeless = {"exit_target": "agreement", "epsilon": 0.0001}
    with pytest.raises(NothingPassedError, match="no exit saves anything at a risk near"):
        calibrate.run(Session.open(replace(request("calibrate"), plan=True, flags=hopeless)))


def test_a_signal_that_is_no_class_is_refused_before_a_training(folder: Path) -> None:
    lines = ('c.exit_target = "signal_efficiency"', 'c.signal = "is_tap"', 'c.background = "is_qcd"')
    project = make_project(folder, *lines)
    with pytest.raises(UsageError, match="signal 'is_tap' is not a class"):
        train.run(Session.open(request("train")))
    assert not project.best_model.exists()


def test_a_choice_among_calibrations_on_the_same_jets_is_no_promise(folder: Path) -> None:
    project = trained_project(folder)

    def notes(**flags: object) -> list[str]:
        with suppress(NothingPassedError):
            run(**flags)
        return [note for note in policy_of(project).notes if "tested policies" in note]

    agreement: dict[str, object] = {"exit_target": "agreement", "epsilon": 0.9, "delta": 0.1}
    assert notes(**agreement) == []
    assert notes(**agreement) == []  # the same again is the same
    (note,) = notes(**agreement, exit_score="margin")
    assert note.startswith("2 calibrations with different settings have tested policies on these jets")
    assert note.endswith("a policy that is chosen among them by its result has a confidence of 0.8")
    (note,) = notes(**agreement)
    assert note.startswith("2 calibrations")
    assert notes(exit_target="budget", cost_budget=0.9) == []
    save_best_model(project, seed=7)
    assert notes(**agreement) == []
    (project.results / "calibrations.json").write_text("{")
    with pytest.raises(UsageError, match=r"calibrations\.json is damaged; move it away"):
        run(**agreement)
