"""Mode predict with --audit: the full model's answers beside those of the exits, with known weights."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from phaze_ee.prediction.writers import read_manifest
from phaze_ee.workspace import Project
from tests.modes.exit_policies import write_policy
from tests.modes.predicting import columns_of, every_exit, notes, predict
from tests.modes.test_predict import SCORES, halves
from tests.modes.two_class_project import JETS, write_jets


@pytest.fixture
def _policy(project: Project, tmp_path: Path) -> None:
    write_policy(project, halves(tmp_path / "val.root"))


@pytest.mark.usefixtures("_policy")
@pytest.mark.parametrize("suffix", ["root", "parquet"])
def test_both_answers_and_the_weight_are_written(
    project: Project, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict("--format", suffix, "--output", tmp_path / "plain") == 0
    plain = columns_of(tmp_path / "plain" / f"val.{suffix}")
    capsys.readouterr()
    assert predict("--format", suffix, "--audit", "0.3") == 0
    columns = columns_of(project.predictions / f"val.{suffix}")
    for name in plain:
        if name != "exit_macs":
            np.testing.assert_array_equal(columns[name], plain[name])
    early_N = columns["exit_index"] < 2
    weight_N = columns["audit_weight"]
    assert set(np.unique(weight_N[early_N]).tolist()) == {0, 1 / 0.3}
    assert set(weight_N[~early_N].tolist()) == {1}
    full_NK = (every_exit(tmp_path / "val.root")[-1] / 2).softmax(dim=-1).numpy()
    for number, name in enumerate(SCORES):
        expected = np.where(weight_N > 0, full_NK[:, number], math.nan)
        np.testing.assert_allclose(columns[f"audit_{name}"], expected, atol=1e-6)

    report = read_manifest(project.predictions / f"val.{suffix}").audit
    assert report is not None
    audited_N = early_N & (weight_N > 0)
    own_N, full_N = ((columns[f"{prefix}{SCORES[1]}"] > 0.5) for prefix in ("", "audit_"))
    assert (report.jets, report.left, report.audited) == (JETS, early_N.sum(), audited_N.sum())
    assert report.found == (audited_N & (own_N != full_N)).sum()
    assert report.changed == pytest.approx(report.found / 0.3)
    assert report.macs > 0
    assert columns["exit_macs"].sum() == read_manifest(project.predictions / f"val.{suffix}").macs
    printed = capsys.readouterr().out
    assert f"{100 * report.audited / report.left:.2f} % of early jets" in printed
    assert max(len(line) for line in printed.splitlines() if str(tmp_path) not in line) <= 80


@pytest.mark.usefixtures("_policy")
def test_the_same_jets_are_audited_in_other_parts_and_orders(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        write_jets(tmp_path / f"jets_{number}.root", np.arange(40 + number) % 2)
    names = [tmp_path / f"jets_{number}.root" for number in range(2)]
    assert predict("--audit", "0.5", "--files", *names, "--output", tmp_path / "one") == 0
    assert predict("--audit", "0.5", "--files", *names[::-1], "--output", tmp_path / "two") == 0
    monkeypatch.setattr("phaze_ee.modes.predict.EVALUATION_ROWS", 7)
    assert predict("--audit", "0.5", "--files", *names, "--output", tmp_path / "three") == 0
    assert predict("--audit", "0.5", "--files", *names, "--seed", "1", "--output", tmp_path / "four") == 0
    one, two, three, four = (
        [columns_of(tmp_path / folder / name.name)["audit_weight"] for name in names]
        for folder in ("one", "two", "three", "four")
    )
    assert {0.0, 2.0} <= set(np.concatenate(one).tolist())
    for number in range(2):
        np.testing.assert_array_equal(one[number], two[number])
        np.testing.assert_array_equal(one[number], three[number])
    assert (np.concatenate(one) != np.concatenate(four)).any()


@pytest.mark.usefixtures("_policy")
def test_all_jets_near_the_threshold_are_audited(project: Project) -> None:
    assert predict("--audit", "0.001", "--audit-near", "2") == 0
    weight_N = columns_of(project.predictions / "val.root")["audit_weight"]
    assert set(weight_N.tolist()) == {1}  # no confidence is 2 above a threshold
    report = read_manifest(project.predictions / "val.root").audit
    assert report is not None
    assert report.left == report.audited


@pytest.mark.usefixtures("_policy")
def test_another_audit_is_not_taken_for_this_one(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("--audit", "0.5") == 0
    for flags in (["--audit", "0.4"], ["--audit", "0.5", "--seed", "3"], ["--audit", "0.5", "--audit-near", "0.1"], []):
        assert predict(*flags) == 2
        assert "made with another choice of --audit, --audit-near or --seed; choose" in capsys.readouterr().err
    assert predict("--audit", "0.5", "--seed", "0") == 0
    assert "predicted already" in notes(capsys.readouterr().out)


@pytest.mark.usefixtures("_policy")
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--audit", "0"], "an audit of 0 is not a probability; give a number above 0 and at most 1"),
        (["--audit", "1.5"], "an audit of 1.5 is not a probability"),
        (["--audit", "nan"], "an audit of nan is not a probability"),
        (["--audit", "0.1", "--audit-near", "-1"], "within -1 is not a distance"),
        (["--audit-near", "0.1"], "need an --audit RATE"),
        (["--seed", "4"], "need an --audit RATE"),
        (["--audit", "0.1", "--seed", "-1"], "--seed -1 is negative"),
        (["--audit", "0.1", "--max-exit", "0"], "--audit measures the policy alone"),
        (["--audit", "0.1", "--event-budget", "3M", "--event-size", "2"], "--audit measures the policy alone"),
        (["--audit", "0.1", "--observers", "audit_weight"], "observer audit_weight has the name of a column"),
    ],
)
def test_audits_that_make_no_sense_are_refused(
    project: Project, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(*flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not any(project.predictions.glob("*"))


@pytest.mark.usefixtures("project")
def test_without_a_policy_there_is_nothing_to_audit(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("--audit", "0.1") == 2
    assert "--audit needs an exit policy, and there is none; run mode 'calibrate'" in capsys.readouterr().err


@pytest.mark.usefixtures("_policy")
def test_an_empty_file_has_an_empty_audit(project: Project, tmp_path: Path) -> None:
    write_jets(tmp_path / "empty.root", np.zeros(0))
    assert predict("--audit", "0.1", "--files", tmp_path / "empty.root") == 0
    assert len(columns_of(project.predictions / "empty.root")["audit_weight"]) == 0
    assert torch.isfinite(torch.tensor(read_manifest(project.predictions / "empty.root").audit.share_error))  # type: ignore[union-attr]
