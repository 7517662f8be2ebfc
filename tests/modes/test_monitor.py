"""Mode monitor on audited predictions: verdicts, files seen twice, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from phaze_ee.cli import main
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import ExitPolicyFile, Guarantee
from phaze_ee.exits.targets import AccuracyDrop, Agreement, AnyTarget
from phaze_ee.workspace import Project
from tests.modes.exit_policies import write_policy
from tests.modes.predicting import columns_of, notes, predict
from tests.modes.test_predict import halves
from tests.modes.two_class_project import save_best_model, write_jets

Capture = pytest.CaptureFixture[str]


def promise(project: Project, policy: ThresholdPolicy, target: AnyTarget, *, holds: bool = True) -> None:
    write_policy(project, policy)
    file = ExitPolicyFile.read(project.exit_policy, made_by="calibrate")
    guarantee = Guarantee(method="ltt", delta=0.05, holds=holds, statement="a promise", risks=[])
    file.model_copy(update={"target": target, "guarantee": guarantee}).write(project.exit_policy)


@pytest.fixture
def audited(project: Project, tmp_path: Path, capsys: Capture) -> Path:
    """Predictions of two files, half of whose jets leave at each exit, with an audit of half of them."""
    promise(project, halves(tmp_path / "val.root"), Agreement(epsilon=0.99))
    for number in range(2):
        write_jets(tmp_path / f"jets_{number}.root", np.arange(300 + number) % 2)
    assert predict("--audit", "0.5", "--files", tmp_path / "jets_*.root") == 0
    capsys.readouterr()
    return project.predictions


def monitor(*flags: str | Path) -> int:
    return main(["-m", "monitor", "-p", "Tops", "small", *map(str, flags)])


def test_a_promise_that_is_kept(project: Project, audited: Path, tmp_path: Path, capsys: Capture) -> None:
    assert monitor("--files", audited / "jets_0.root") == 0
    assert monitor("--files", audited / "*.root") == 0
    printed = capsys.readouterr().out
    assert "New: 1 of 2 files" in notes(printed)
    assert "Verdict: kept so far" in printed
    assert max(len(line) for line in printed.splitlines() if str(tmp_path) not in line) <= 80
    files = json.loads((project.results / "monitor.json").read_text())["files"]
    for number, file in enumerate(files):
        columns = columns_of(audited / f"jets_{number}.root")
        own_N, full_N = (columns[f"{prefix}score_is_top"] > 0.5 for prefix in ("", "audit_"))
        drawn_N = columns["audit_weight"] == 2
        assert file["losses"] == {
            "rate": 0.5,
            "jets": 300 + number,
            "certain": (columns["audit_weight"] == 1).sum(),
            "certain_lost": 0,
            "drawn": drawn_N.sum(),
            "drawn_lost": (drawn_N & (own_N != full_N)).sum(),
        }
    before = (project.results / "monitor.json").read_text()
    assert monitor("--files", audited / "*.root") == 0
    assert (project.results / "monitor.json").read_text() == before


@pytest.mark.parametrize("target", [Agreement(epsilon=0.01), AccuracyDrop(epsilon=0.01)])
def test_a_promise_that_is_broken(project: Project, tmp_path: Path, target: AnyTarget, capsys: Capture) -> None:
    promise(project, ThresholdPolicy("confidence", [0.0, 0.0]), target)
    write_jets(tmp_path / "jets.root", np.arange(400) % 2)
    assert predict("--audit", "1", "--files", tmp_path / "jets.root") == 0
    capsys.readouterr()
    status = monitor("--files", project.predictions / "jets.root")
    printed = capsys.readouterr()
    if target.name == "agreement":
        assert status == 3
        assert "Verdict: broken" in printed.out
        assert "the promise of policy" in printed.err
        assert monitor("--files", project.predictions / "jets.root") == 3  # it stays broken
    else:
        assert status == 0
        assert "Verdict: not known yet\n" in printed.out  # and no number of jets, which would not help
        assert "without labels a larger share does not show" in notes(printed.out)


def test_what_cannot_be_watched(project: Project, audited: Path, tmp_path: Path, capsys: Capture) -> None:
    def refused(*flags: str | Path) -> str:
        assert monitor(*flags) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return notes(error)

    state = project.results / "monitor.json"
    assert "monitor needs --files" in refused()
    assert "val.root was not written by mode predict" in refused("--files", tmp_path / "val.root")
    assert "no file" in refused("--files", tmp_path / "nothing*.root")
    assert predict("--files", tmp_path / "val.root", "--output", tmp_path / "plain") == 0
    assert "has no audit; predict its jets with --audit RATE" in refused("--files", tmp_path / "plain" / "val.root")
    assert not state.exists()
    assert monitor("--files", audited / "jets_0.root") == 0
    assert predict("--audit", "0.2", "--files", tmp_path / "val.root", "--output", tmp_path / "rare") == 0
    assert "was audited at a rate of 0.2, the files before at 0.5" in refused("--files", tmp_path / "rare/val.root")
    whole = state.read_text()
    state.write_text(whole[:-40])
    assert "is damaged, and was kept; move it away" in refused("--files", audited / "jets_1.root")
    assert state.read_text() == whole[:-40]
    state.write_text(whole)
    promise(project, ThresholdPolicy("confidence", [0.9, 0.9]), Agreement(epsilon=0.99))
    assert "watches another policy" in refused("--files", audited / "jets_1.root")
    state.unlink()
    assert "was predicted with another policy" in refused("--files", audited / "jets_1.root")
    promise(project, ThresholdPolicy("confidence", [0.9, 0.9]), Agreement(epsilon=0.99), holds=False)
    assert "promises nothing that can be watched" in refused("--files", audited / "jets_1.root")
    save_best_model(project, seed=2)
    assert "calibrated for another model" in refused("--files", audited / "jets_1.root")
    project.exit_policy.unlink()
    assert "there is no policy to watch" in refused("--files", audited / "jets_1.root")
