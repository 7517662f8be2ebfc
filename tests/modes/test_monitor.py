"""Mode monitor on audited predictions: verdicts, files seen twice, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from phaze_ee.cli import main
from phaze_ee.exits.conditions import ALL_JETS, Conditions
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import ExitPolicyFile, Guarantee
from phaze_ee.exits.sequence import SeenLosses
from phaze_ee.exits.targets import AccuracyDrop, Agreement, AnyTarget, SignalEfficiency
from phaze_ee.prediction.watched import MonitorResults, WatchedFile
from phaze_ee.prediction.writers import InputFile, read_manifest
from phaze_ee.tables.monitor import monitor_sentences
from phaze_ee.workspace import Project
from tests.modes.exit_policies import write_policy
from tests.modes.predicting import columns_of, notes, predict, rewrite
from tests.modes.test_predict import halves
from tests.modes.two_class_project import save_best_model, write_jets

Capture = pytest.CaptureFixture[str]


def promise(
    project: Project,
    policy: ThresholdPolicy,
    target: AnyTarget,
    *,
    holds: bool = True,
    conditions: Conditions = ALL_JETS,
) -> None:
    write_policy(project, policy)
    file = ExitPolicyFile.read(project.exit_policy, made_by="calibrate")
    guarantee = Guarantee(method="ltt", delta=0.05, holds=holds, statement="a promise", risks=[], conditions=conditions)
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
            "early": drawn_N.sum(),
        }
    before = (project.results / "monitor.json").read_text()
    assert monitor("--files", audited / "*.root") == 0
    assert (project.results / "monitor.json").read_text() == before


@pytest.mark.parametrize("flags", [("--audit", "0.1", "--audit-near", "0.05"), ("--audit", "1")])
def test_the_audited_jets_are_those_of_predict(
    project: Project, tmp_path: Path, capsys: Capture, flags: tuple[str, ...]
) -> None:
    promise(project, halves(tmp_path / "val.root"), Agreement(epsilon=0.99))
    write_jets(tmp_path / "jets.root", np.arange(300) % 2)
    assert predict(*flags, "--files", tmp_path / "jets.root") == 0
    report = read_manifest(project.predictions / "jets.root").audit
    assert report is not None
    assert report.left > report.audited * (len(flags) == 4)
    capsys.readouterr()
    assert monitor("--files", project.predictions / "jets.root") == 0
    (row,) = (line.split() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("1 "))
    assert row[1:4] == ["300", str(report.audited), str(report.found)]
    path = project.results / "monitor.json"
    older = json.loads(path.read_text())
    del older["files"][0]["losses"]["early"]  # as an older version wrote it
    path.write_text(json.dumps(older))
    write_jets(tmp_path / "more.root", np.arange(100) % 2)
    assert predict(*flags, "--files", tmp_path / "more.root") == 0
    assert monitor("--files", project.predictions / "*.root") == 0


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


def test_the_selection_of_a_cut(project: Project, tmp_path: Path, capsys: Capture) -> None:
    write_jets(tmp_path / "jets.root", np.arange(600) % 2)
    policy = halves(tmp_path / "val.root")
    promise(project, policy, Agreement(epsilon=0.5))
    assert predict("--audit", "0.5", "--files", tmp_path / "jets.root") == 0
    columns = columns_of(project.predictions / "jets.root")
    own_N, full_N = (
        np.log(columns[f"{prefix}score_is_top"] / columns[f"{prefix}score_is_qcd"]) for prefix in ("", "audit_")
    )
    weight_N = columns["audit_weight"]
    drawn_N = weight_N == 2
    cuts = np.quantile(own_N[drawn_N], np.linspace(0.02, 0.98, 49))
    shares = [
        (own_N < cut)[drawn_N & (full_N >= cut)].mean() if (drawn_N & (full_N >= cut)).any() else 1 for cut in cuts
    ]
    cut = float(cuts[np.abs(np.array(shares) - 0.3).argmin()])  # the exits reject about this share of the selected jets
    target = SignalEfficiency(
        epsilon=0.95,
        signal="is_top",
        background="is_qcd",
        efficiency=0.5,
        background_growth=0.5,
        form="reject",
        cut=cut,
    )
    promise(project, policy, target)
    capsys.readouterr()
    assert monitor("--files", project.predictions / "jets.root") == 0
    printed = notes(capsys.readouterr().out)
    assert "Verdict: kept so far for the selection" in printed
    assert "if a part f of these jets is signal, at most the share divided by f of it is lost" in printed
    state = json.loads((project.results / "monitor.json").read_text())
    kept_N, lost_N = (weight_N > 0) & (full_N >= cut), own_N < cut
    assert state["files"][0]["losses"] == {
        "rate": 0.5,
        "jets": 600,
        "certain": int((kept_N & (weight_N == 1)).sum()),
        "certain_lost": int((kept_N & (weight_N == 1) & lost_N).sum()),
        "drawn": int((kept_N & (weight_N == 2)).sum()),
        "drawn_lost": int((kept_N & (weight_N == 2) & lost_N).sum()),
        "early": int((kept_N & (columns["exit_index"] < 2)).sum()),
    }
    assert state["files"][0]["losses"]["drawn_lost"] > 0


def test_only_leaving_jets_count_for_a_promise_about_them(project: Project, tmp_path: Path, capsys: Capture) -> None:
    write_jets(tmp_path / "jets.root", np.arange(400) % 2)
    policy = halves(tmp_path / "val.root")
    promise(project, policy, Agreement(epsilon=0.99), conditions=Conditions(leaving=True))
    assert predict("--audit", "1", "--files", tmp_path / "jets.root") == 0
    capsys.readouterr()
    columns = columns_of(project.predictions / "jets.root")
    leaves_N = columns["exit_index"] < len(policy.thresholds)
    changed_N = (columns["score_is_top"] > 0.5) != (columns["audit_score_is_top"] > 0.5)
    assert 0 < leaves_N.sum() < 400
    assert changed_N.sum() > 0
    assert monitor("--files", project.predictions / "jets.root") == 0
    assert f"{100 * changed_N[leaves_N].mean():.2f} %" in capsys.readouterr().out
    (file,) = MonitorResults.read(project.results / "monitor.json", made_by="monitor").files
    assert (file.losses.jets, file.losses.drawn, file.losses.certain) == (leaves_N.sum(), leaves_N.sum(), 0)
    assert monitor("--adapt") == 2
    assert "calibrate without --leaving" in notes(capsys.readouterr().err)
    promise(project, policy, Agreement(epsilon=0.99))
    assert monitor("--files", project.predictions / "jets.root") == 2
    assert "watches another policy" in notes(capsys.readouterr().err)


def test_a_promise_in_parts_is_not_watched_and_this_is_said(
    project: Project, audited: Path, tmp_path: Path, capsys: Capture
) -> None:
    conditions = Conditions(per_class=True, bins={"jet_id": [0.0, 50.0, 100.0]})
    promise(project, halves(tmp_path / "val.root"), Agreement(epsilon=0.99), conditions=conditions)
    assert monitor("--files", audited / "jets_*.root") == 0
    printed = notes(capsys.readouterr().out)
    assert "the promise in each class and 2 bins of jet_id (0, 50, 100) is not watched here; --by jet_id" in printed
    apart = ("--by", "jet_id", "--output", tmp_path / "apart")
    assert monitor("--files", audited / "jets_*.root", *apart) == 0
    printed = notes(capsys.readouterr().out)
    assert "jet_id 0 to 50: " in printed
    assert "the promise in each class is not watched here Written" in printed
    results = MonitorResults.read(tmp_path / "apart" / "monitor.json", made_by="monitor")
    seen = {value: losses[-1].jets for value, (losses, _) in results.sequences.items()}
    assert seen == {"jet_id 0 to 50": 100, "jet_id 50 to 100": 100}  # 50 of each file; the others are in no bin
    promise(project, halves(tmp_path / "val.root"), Agreement(epsilon=0.99))
    assert monitor("--files", audited / "jets_*.root", *apart) == 2
    assert "watches another policy" in notes(capsys.readouterr().err)


def test_the_files_that_break_a_promise_are_named() -> None:
    def watched(*lost: int | None) -> MonitorResults:
        files = []
        for number, own in enumerate(lost):
            jets = 0 if own is None else 5000
            losses = SeenLosses(rate=1.0, jets=jets, certain=0, certain_lost=0, drawn=jets, drawn_lost=own or 0)
            read = InputFile(path=f"{number}.root", size=1, changed_ns=1)
            files.append(WatchedFile(input=read, losses=losses))
        return MonitorResults(
            model=None, policy=None, rate=1.0, epsilon=0.02, delta=0.05, exact=True, selection=None, files=files
        )

    assert watched(50, 50, 60).worst_files is None
    by_sample = watched(20, 20, 200, 20)
    assert by_sample.worst_files == (3, 3, 0.04)
    said = " ".join(monitor_sentences(by_sample))
    assert "in file 3 4.00 % are lost; of all jets 1.30 %" in said
    assert "the share of all jets is below the limit" in said
    after_an_empty_file = watched(20, 20, None, None, 200, None, 20)
    assert after_an_empty_file.worst_files == (5, 5, 0.04)
    late = watched(90, 200, 200)
    assert late.worst_files == (2, 2, 0.04)
    assert "below the limit" not in " ".join(monitor_sentences(late))


def test_values_of_a_column_are_watched_apart(project: Project, tmp_path: Path, capsys: Capture) -> None:
    promise(project, ThresholdPolicy("confidence", [0.0, 0.0]), Agreement(epsilon=0.2))
    for number in range(2):
        write_jets(tmp_path / f"jets_{number}.root", np.arange(400) % 2)
        rewrite(
            tmp_path / f"jets_{number}.root", tmp_path / f"run_{number}.root", jet_id=np.arange(400) // 200 + number
        )
    assert predict("--audit", "1", "--files", tmp_path / "run_*.root") == 0
    capsys.readouterr()
    assert monitor("--by", "jet_id", "--files", project.predictions / "run_*.root") == 3
    printed = capsys.readouterr().out
    assert "Verdict: broken" in printed
    assert max(len(line) for line in printed.splitlines() if str(tmp_path) not in line) <= 80
    results = MonitorResults.read(project.results / "monitor.json", made_by="monitor")
    sequences = results.sequences
    assert {value: [losses.jets for losses in seen] for value, (seen, _) in sequences.items()} == {
        "0": [200],
        "1": [200, 400],
        "2": [200],
    }
    assert [delta for _, delta in sequences.values()] == pytest.approx([0.05 / 2, 0.05 / 6, 0.05 / 12])
    assert [results.verdict_of(value) for value in sequences] == ["broken"] * 3
    for by, message in (("entry", "watches the values of jet_id, not those of --by entry"), ("evt", "not those of")):
        assert monitor("--by", by, "--files", project.predictions / "run_*.root") == 2
        assert message in notes(capsys.readouterr().err)
    other = ("--output", tmp_path / "other", "--files", project.predictions / "run_0.root")
    assert monitor("--by", "evt", *other) == 2
    assert "has no column evt for --by; predict its jets again with --observers evt" in notes(capsys.readouterr().err)
    assert monitor("--by", "score_is_top", *other) == 2
    assert "give --by a column of at most" in notes(capsys.readouterr().err)


def test_a_column_of_fractions_or_gaps_names_no_runs(project: Project, tmp_path: Path, capsys: Capture) -> None:
    promise(project, ThresholdPolicy("confidence", [0.0, 0.0]), Agreement(epsilon=0.99))
    write_jets(tmp_path / "jets.root", np.arange(400) % 2)
    gaps = np.where(np.arange(400) < 300, 7.0, np.nan)
    for name, column_N in (("whole", np.full(400, 7.0)), ("gaps", gaps), ("thirds", np.full(400, 1 / 3))):
        rewrite(tmp_path / "jets.root", tmp_path / f"{name}.root", jet_id=column_N)
        assert predict("--audit", "1", "--files", tmp_path / f"{name}.root") == 0
    capsys.readouterr()
    for name, message in (
        ("gaps", "has nan in jet_id (100 of 400 jets are not whole numbers)"),
        ("thirds", "has 0.333333 in jet_id (400 of 400 jets"),
    ):
        assert monitor("--by", "jet_id", "--files", project.predictions / f"{name}.root") == 2
        assert message in notes(capsys.readouterr().err)
    assert monitor("--by", "jet_id", "--files", project.predictions / "whole.root") == 0
    assert " 7: " in capsys.readouterr().out


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
    for name, count in (("drawn_lost", 10**6), ("certain_lost", -1), ("jets", 10), ("early", 301), ("rate", 0.4)):
        changed = json.loads(whole)
        changed["files"][0]["losses"][name] = count
        state.write_text(json.dumps(changed))
        assert "is damaged, and was kept; move it away" in refused("--files", audited / "jets_1.root"), name
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
