"""The safer policies to which a calibrated one can move."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from phaze_ee.errors import UsageError
from phaze_ee.exits.calibrate import Calibration, Settings, calibrate
from phaze_ee.exits.candidates import Candidate
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.exits.promise import policy_file
from phaze_ee.exits.safer import safer_policies
from phaze_ee.exits.targets import Agreement, Budget, Target
from phaze_ee.results.base import Provenance
from tests.exits.synthetic import synthetic_answers
from tests.exits.test_calibrate import TARGETS

JETS, OTHERS = synthetic_answers(4000), synthetic_answers(20_000, seed=2)
PROVENANCE = Provenance("Tops/small", "best_model.pt", "0" * 64, [])


def written(result: Calibration, target: Target) -> ExitPolicyFile:
    return policy_file(result, Settings(target), PROVENANCE, held_out_of_validation=True)


@pytest.mark.parametrize("target", [TARGETS[name] for name in ("accuracy_drop", "agreement", "reject")])
def test_safer_policies_are_slower_and_passed_the_same_tests(target: Target) -> None:
    result = calibrate(JETS, Settings(target))
    policies = [result.policy, *(policy for policy, _ in result.safer)]
    jets = OTHERS.tempered(result.policy.temperatures)
    costs = [jets.costs.mean(jets.exit_index(policy)) for policy in policies]
    assert 4 <= len(policies) <= 9
    assert np.all(np.diff(costs) > 0)
    assert set(policies[-1].thresholds) == {math.inf}
    for policy, risks in result.safer:
        assert policy.temperatures == result.policy.temperatures
        assert all(risk.p_value <= 0.05 for risk in risks)
    for before, after in pairwise(policies):
        assert set(after.exits or ()) <= set(before.exits or ())


def test_safer_policies_lie_close_to_the_chosen_one_and_farther_apart_towards_the_full_model() -> None:
    cost = [0.98, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.22, 0.2, 0.1]
    sequence = [Candidate(ThresholdPolicy("confidence", [share, math.inf]), share, 0.0) for share in cost]
    # Of the 0.8 that the policy saves, (k/8)² is given up at step k: 0.2125, 0.25, 0.3125, 0.4, 0.5125, 0.65, 0.8125.
    found = safer_policies(sequence, cost.index(0.2))
    assert [policy.thresholds[0] for policy in found] == [0.22, 0.25, 0.4, 0.5, 0.6, 0.7, 0.9, math.inf]
    both = ThresholdPolicy("confidence", [0.5, 0.5])
    sequence[cost.index(0.4)] = Candidate(both, 0.4, 0.0)
    assert both not in safer_policies(sequence, cost.index(0.2)), "it evaluates an exit that the chosen one does not"
    assert [policy.thresholds for policy in safer_policies(sequence, 0)] == [(math.inf, math.inf)]


def test_a_budget_and_a_failed_calibration_have_none() -> None:
    assert not calibrate(JETS, Settings(Budget(cost=0.5))).safer
    failed = calibrate(JETS.select(np.arange(40)), Settings(Agreement(epsilon=0.01)))
    assert failed.reason is not None
    assert not failed.safer


def test_a_moved_policy_knows_where_it_comes_from(tmp_path: Path) -> None:
    file = written(calibrate(JETS, Settings(TARGETS["agreement"])), TARGETS["agreement"])
    assert file.moved(0, "tight").decisions_hash == file.decisions_hash
    moved = file.moved(2, "tight")
    assert moved.thresholds == file.safer[1].thresholds
    assert moved.guarantee.risks == file.safer[1].risks
    assert moved.realised["files"].cost_share > file.realised["files"].cost_share
    moved.write(tmp_path / "moved.json")
    read = ExitPolicyFile.read(tmp_path / "moved.json", made_by="monitor")
    assert (read.step, read.steps) == (2, file.steps)
    assert read.decisions_hash == file.steps[2]
    further = read.moved(len(file.safer), "tight")
    assert further.steps == file.steps
    assert not further.lets_jets_leave
    assert read.policy_at(3).thresholds == file.policy_at(3).thresholds
    text = (tmp_path / "moved.json").read_text(encoding="utf-8")
    (tmp_path / "moved.json").write_text(text.replace('"step": 2', '"step": 99'), encoding="utf-8")
    with pytest.raises(UsageError, match="moved by 99 steps"):
        ExitPolicyFile.read(tmp_path / "moved.json", made_by="monitor")


def test_a_policy_that_was_edited_has_no_promise(tmp_path: Path) -> None:
    path = tmp_path / "exit_policy.json"
    written(calibrate(JETS, Settings(TARGETS["agreement"])), TARGETS["agreement"]).write(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    older = {key: value for key, value in content.items() if key != "seal"}
    for accepted in (content, older):
        path.write_text(json.dumps(accepted), encoding="utf-8")  # in another layout
        assert ExitPolicyFile.read(path, made_by="calibrate").thresholds == content["thresholds"]
    safer = [{**content["safer"][0], "thresholds": [0.1, 0.1]}, *content["safer"][1:]]
    promise = {**content["guarantee"], "statement": "none is lost"}
    target = {**content["target"], "epsilon": 0.001}
    for edit in (
        {"thresholds": [0.1, 0.1]}, {"temperatures": [1.0, 1.0, 1.0]}, {"safer": safer}, {"guarantee": promise},
        {"target": target}, {"seal": "0" * 64},
    ):  # fmt: skip
        path.write_text(json.dumps(content | edit), encoding="utf-8")
        with pytest.raises(UsageError, match=r"exit_policy\.json was edited: it is not what mode 'calibrate' wrote"):
            ExitPolicyFile.read(path, made_by="calibrate")
