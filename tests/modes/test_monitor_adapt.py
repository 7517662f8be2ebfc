"""Mode monitor with --adapt: a policy that loses too much moves to a safer one of its own sequence."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from phaze_ee.exits.policies import ThresholdPolicy, exit_index
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.exits.safer import SaferPolicy
from phaze_ee.exits.targets import AccuracyDrop, Agreement
from phaze_ee.modes.policies import active_name
from phaze_ee.prediction.watched import MonitorResults
from phaze_ee.prediction.writers import read_manifest
from phaze_ee.workspace import Project
from tests.modes.predicting import columns_of, every_exit, notes, predict
from tests.modes.test_monitor import Capture, monitor, promise
from tests.modes.two_class_project import write_jets

JETS = 400


def lost(path: Path, thresholds: list[float]) -> np.ndarray:
    """Which jets of a file a policy would give another class than the full model."""
    logits_ENK = every_exit(path, JETS)
    index_N = exit_index(ThresholdPolicy("confidence", thresholds), logits_ENK).numpy()
    class_EN = logits_ENK.argmax(dim=-1).numpy()
    lost_N: np.ndarray = class_EN[index_N, np.arange(len(index_N))] != class_EN[-1]
    return lost_N


@pytest.fixture
def steps(project: Project, tmp_path: Path) -> list[list[float]]:
    """The active policy "tight", by which all jets leave at exit 0, and three safer ones; the last is the full model.

    All of them lose jets but the last; the third loses the fewest.
    """
    for number in range(3):
        write_jets(tmp_path / f"jets_{number}.root", np.arange(JETS) % 2)
    confidence_N = every_exit(tmp_path / "jets_0.root", JETS).softmax(dim=-1).amax(dim=-1)[0]
    middle, most = (float(confidence_N.quantile(part)) for part in (0.5, 0.95))
    thresholds = [[0.0, math.inf], [middle, math.inf], [most, math.inf], [math.inf, math.inf]]
    promise(project, ThresholdPolicy("confidence", thresholds[0]), Agreement(epsilon=0.2))
    keep(project, "tight", thresholds)
    return thresholds


def keep(project: Project, name: str, thresholds: list[list[float]]) -> None:
    file = ExitPolicyFile.read(project.exit_policy, made_by="calibrate")
    safer = [SaferPolicy(score=file.score, thresholds=own, risks=[], realised={}) for own in thresholds[1:]]
    for path in (project.exit_policy, project.policy(name)):
        file.model_copy(update={"safer": safer}).write(path)


def test_it_moves_and_predictions_go_on_with_the_safer_policy(
    project: Project, tmp_path: Path, steps: list[list[float]], capsys: Capture
) -> None:
    before = project.exit_policy.read_bytes()
    assert monitor("--adapt") == 0  # the policy to predict with, before any move
    assert "predict with --policy tight.adapted --audit RATE" in notes(capsys.readouterr().out)
    assert predict("--audit", "0.5", "--policy", "tight.adapted", "--files", tmp_path / "jets_0.root") == 0
    columns = columns_of(project.predictions / "jets_0.root")
    for step in (1, 2, 3):
        expected_N = lost(tmp_path / "jets_0.root", steps[step]) & (columns["audit_weight"] > 0)
        assert columns[f"audit_lost_{step}"].tolist() == expected_N.tolist()
    share = [lost(tmp_path / "jets_0.root", own).mean() for own in steps]
    assert share[0] > share[1] > 0.2 > share[2] > share[3] == 0
    capsys.readouterr()
    assert monitor("--adapt", "--files", project.predictions / "jets_0.root") == 0
    printed = capsys.readouterr().out
    assert "from step 0 to step 2 of 3, after 1 file (400 jets)" in notes(printed)
    assert "Verdict: not known yet: no jets since the move" in printed
    assert "Policy: step 2 of 3 since file 1" in notes(printed)
    assert max(len(line) for line in printed.splitlines() if str(tmp_path) not in line) <= 80
    moved = ExitPolicyFile.read(project.policy("tight.adapted"), made_by="monitor")
    assert (moved.step, moved.thresholds, moved.moved_from.name if moved.moved_from else "") == (2, steps[2], "tight")
    (entry,) = map(json.loads, (project.results / "moves.jsonl").read_text().splitlines())
    assert (entry["policy"], entry["before"], entry["after"], entry["jets"]) == ("tight", 0, 2, JETS)
    assert (entry["thresholds_before"], entry["thresholds_after"]) == (steps[0], steps[2])
    assert entry["log10_evidence"] > math.log10(2 / 0.05)
    assert project.exit_policy.read_bytes() == before

    flags = ("--audit", "0.5", "--policy", "tight.adapted", "--files", tmp_path / "jets_*.root")
    assert predict(*flags) == 0
    assert "before the policy moved to safer thresholds: 1 of 3 files" in notes(capsys.readouterr().out)
    policies = [read_manifest(project.predictions / f"jets_{number}.root").recipe.policy for number in range(3)]
    assert policies == [moved.steps[0], moved.steps[2], moved.steps[2]]
    assert monitor("--files", project.predictions / "*.root") == 0  # the state says that it moves
    results = MonitorResults.read(project.results / "monitor.json", made_by="monitor")
    assert [(file.step, len(file.safer)) for file in results.files] == [(0, 3), (2, 1), (2, 1)]
    assert (results.step, len(results.moves), len(results.totals)) == (2, 1, 3)
    assert results.totals[-1].jets == 2 * JETS
    assert results.verdict == "kept so far"
    assert len((project.results / "moves.jsonl").read_text().splitlines()) == 1
    for suffix in ("png", "pdf"):
        assert (project.results / f"monitor.{suffix}").stat().st_size > 5_000


def test_a_moved_policy_is_never_made_faster(
    project: Project, tmp_path: Path, steps: list[list[float]], capsys: Capture
) -> None:
    assert predict("--audit", "1", "--files", tmp_path / "jets_0.root") == 0
    assert monitor("--adapt", "--files", project.predictions / "jets_0.root") == 0
    adapted = project.policy("tight.adapted")
    further = ExitPolicyFile.read(adapted, made_by="monitor").moved(3, "tight")
    further.write(adapted)
    further.write(project.exit_policy)  # as --activate does
    assert active_name(project) == "tight.adapted"
    capsys.readouterr()
    assert monitor("--files", project.predictions / "jets_0.root") == 0
    assert "tight.adapted has moved further, by 3 steps, and stays so" in notes(capsys.readouterr().out)
    assert ExitPolicyFile.read(adapted, made_by="monitor").step == 3
    # The full model leaves nothing to audit, and loses nothing.
    assert predict("--audit", "1", "--files", tmp_path / "jets_1.root") == 0
    assert set(columns_of(project.predictions / "jets_1.root")["audit_weight"]) == {1.0}
    assert monitor("--files", project.predictions / "jets_1.root") == 0
    printed = notes(capsys.readouterr().out)
    assert "Verdict: kept so far" in printed
    assert "Policy: step 3 of 3 (the full model) since file 1" in printed
    assert predict("--monitor", "--files", tmp_path / "jets_2.root") == 2
    assert "from which this one has moved to safer thresholds" in notes(capsys.readouterr().err)


def test_files_predicted_before_a_move_tell_what_the_moved_policy_loses(
    project: Project, tmp_path: Path, steps: list[list[float]], capsys: Capture
) -> None:
    assert predict("--audit", "0.5", "--files", tmp_path / "jets_*.root") == 0
    assert monitor("--adapt", "--files", project.predictions / "*.root") == 0
    results = MonitorResults.read(project.results / "monitor.json", made_by="monitor")
    assert [file.step for file in results.files] == [0, 0, 0]
    assert [(move.files, move.after) for move in results.moves] == [(1, 2)]
    found = 0
    for number in (1, 2):
        seen_N = columns_of(project.predictions / f"jets_{number}.root")["audit_weight"] > 0
        found += int((lost(tmp_path / f"jets_{number}.root", steps[2]) & seen_N).sum())
    assert results.totals[-1].certain_lost + results.totals[-1].drawn_lost == found > 0
    assert results.verdict == "kept so far"


def test_an_active_policy_that_moves_stays_active(project: Project, tmp_path: Path, steps: list[list[float]]) -> None:
    assert monitor("--adapt") == 0
    project.exit_policy.write_bytes(project.policy("tight.adapted").read_bytes())
    assert predict("--audit", "1", "--files", tmp_path / "jets_0.root") == 0
    assert monitor("--adapt", "--files", project.predictions / "jets_0.root") == 0
    assert active_name(project) == "tight.adapted"
    assert ExitPolicyFile.read(project.exit_policy, made_by="monitor").thresholds == steps[2]


def test_what_cannot_move(project: Project, tmp_path: Path, steps: list[list[float]], capsys: Capture) -> None:
    def refused(*flags: str | Path) -> str:
        capsys.readouterr()
        assert monitor(*flags) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return notes(error)

    predictions, other = project.predictions / "jets_0.root", tmp_path / "other"
    assert predict("--audit", "0.5", "--files", tmp_path / "jets_0.root") == 0
    assert "run it without --by" in refused("--adapt", "--by", "jet_id", "--files", predictions)
    assert "mode 'monitor' makes it: --adapt" in refused("--policy", "tight.adapted", "--files", predictions)
    assert monitor("--output", other, "--files", predictions) == 3
    assert "without --adapt, not with --adapt; give a folder of its own: --output" in refused(
        "--adapt", "--output", other, "--files", predictions
    )
    assert monitor("--adapt", "--files", predictions) == 0
    state = json.loads((project.results / "monitor.json").read_text())
    state["files"][0]["safer"].pop()
    damaged = json.dumps(state)
    (project.results / "monitor.json").write_text(damaged)
    assert "is damaged, and was kept; move it away" in refused("--adapt", "--files", predictions)
    assert (project.results / "monitor.json").read_text() == damaged
    state["files"][0]["safer"] = [[0, 10**6]] * 3
    (project.results / "monitor.json").write_text(json.dumps(state))
    assert "is damaged, and was kept; move it away" in refused("--adapt", "--files", predictions)
    (project.results / "moves.jsonl").write_text("{")
    (project.results / "monitor.json").unlink()
    assert "moves.jsonl is damaged, and was kept; move it away" in refused("--adapt", "--files", predictions)
    (project.results / "moves.jsonl").unlink()
    keep(project, "tight", [*steps[:2], steps[-1]])  # the same policy with other safer ones
    assert "does not say what the safer policies would have lost" in refused("--adapt", "--files", predictions)
    keep(project, "tight", steps[:1])
    assert "has no safer policies to move to" in refused("--adapt", "--files", predictions)
    promise(project, ThresholdPolicy("confidence", steps[0]), AccuracyDrop(epsilon=0.2))
    assert "--adapt needs a policy of target agreement" in refused("--adapt", "--files", predictions)
