"""The sequence of policies that a calibration tested, as its policy file stores it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from phaze_ee.errors import UsageError
from phaze_ee.exits.calibrate import Settings, calibrate
from phaze_ee.exits.conditions import Conditions
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.exits.promise import policy_file
from phaze_ee.exits.targets import Agreement, Budget
from tests.exits.synthetic import synthetic_answers
from tests.exits.test_calibrate import TARGETS
from tests.exits.test_safer import PROVENANCE

JETS = synthetic_answers(1500)
HARD_JETS = synthetic_answers(1500, sharpness=(0.5, 1.0, 1.5))  # the full model accepts some background
LIMIT = 0.1
CASES = {
    "confidence": Settings(Agreement(epsilon=LIMIT)),
    "margin": Settings(Agreement(epsilon=0.1), score="margin", method="crc"),
    "patience": Settings(Agreement(epsilon=0.2), score="patience"),
    "gate": Settings(Agreement(epsilon=0.1), score="gate"),
    "classes": Settings(Agreement(epsilon=0.1), conditions=Conditions(per_class=True)),
    "leaving": Settings(Agreement(epsilon=0.1), conditions=Conditions(leaving=True)),
    "reject": Settings(TARGETS["reject"].model_copy(update={"epsilon": 0.05})),
    "two_sided": Settings(TARGETS["two_sided"].model_copy(update={"epsilon": 0.2, "background_growth": 1.0})),
    "budget": Settings(Budget(cost=0.5)),
    "failed": Settings(Agreement(epsilon=0.001)),
}


def written(settings: Settings) -> ExitPolicyFile:
    return policy_file(calibrate(JETS, settings), settings, PROVENANCE, held_out_of_validation=True)


@pytest.mark.parametrize("name", CASES)
def test_the_sequence_leads_from_the_full_model_through_the_policy_to_faster_ones(name: str) -> None:
    settings = CASES[name]
    result = calibrate(HARD_JETS if name == "two_sided" else JETS, settings)
    file = policy_file(result, settings, PROVENANCE, held_out_of_validation=True)
    sequence = file.sequence
    assert sequence is not None
    assert 2 <= len(sequence.steps) <= 70
    policies = [sequence.policy(step) for step in sequence.steps]
    assert set(policies[0].thresholds) == {math.inf}
    assert all(policy.exits for policy in policies[1:])
    costs = [result.shaping.costs.mean(result.shaping.exit_index(policy)) for policy in policies]
    assert np.all(np.diff(costs) < 0)
    decisions = [(policy.score, list(policy.thresholds)) for policy in policies]
    own = decisions.index((file.score, file.thresholds))
    assert decisions.count((file.score, file.thresholds)) == 1
    assert all((safer.score, safer.thresholds) in decisions for safer in file.safer)
    assert sequence.steps[own].upper_limits == [risk.upper_limit for risk in file.guarantee.risks]
    passed = [step.passed for step in sequence.steps]
    assert passed == [index <= (0 if name == "budget" else own) for index in range(len(passed))]
    assert (own == 0) is (name == "failed")


def test_the_first_policy_that_fails_is_kept() -> None:
    file = written(CASES["confidence"])
    assert file.sequence is not None
    failed = next(step for step in file.sequence.steps if not step.passed)
    assert failed.upper_limits[0] > LIMIT


def test_a_file_without_a_sequence_is_read_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "exit_policy.json"
    written(CASES["reject"]).write(path)
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data.pop("seal") is not None  # older files have none either
    steps = data["sequence"]["steps"]
    for place, wrong, words in (("score", 7, "there is 1 score"), ("thresholds", [0.5], "1 thresholds")):
        right, steps[1][place] = steps[1][place], wrong
        path.write_text(json.dumps(data), encoding="utf-8")
        with pytest.raises(UsageError, match=words):
            ExitPolicyFile.read(path, made_by="calibrate")
        steps[1][place] = right
    del data["sequence"]
    path.write_text(json.dumps(data), encoding="utf-8")
    assert ExitPolicyFile.read(path, made_by="calibrate").sequence is None
