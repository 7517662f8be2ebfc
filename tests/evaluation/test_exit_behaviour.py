import numpy as np
import pytest

from phaze_ee.evaluation.operating_point import bounds, exit_behaviour, exits_per_class
from tests.evaluation.answers import answers, random_answers, saying

# Jet by jet: right at once; right late; right early only; agrees early but wrong; never right.
ANSWERS = saying([[0, 2, 1, 2, 0], [0, 1, 0, 2, 1], [0, 1, 0, 2, 1]], label_N=[0, 1, 1, 1, 2])


def test_oracles_and_overthinking() -> None:
    found = bounds(ANSWERS, "label_QCD")
    assert found.oracle.exit_fractions == [4 / 5, 1 / 5, 0]  # without a right exit, the first
    assert found.oracle.accuracy == 3 / 5
    assert found.label_free_oracle.exit_fractions == [2 / 5, 3 / 5, 0]
    assert found.label_free_oracle.accuracy == 2 / 5
    assert (found.overthinking.value, found.overthinking.jets) == (1 / 5, 5)


def test_no_policy_beats_the_oracle() -> None:
    sample = random_answers(300)
    some = answers(sample.logits_ENK, sample.label_N)
    found = bounds(some, "label_QCD")
    assert found.oracle.accuracy == some.correct_EN.any(axis=0).mean()
    assert found.label_free_oracle.accuracy == some.correct_EN[-1].mean()
    assert found.oracle.macs_share < 1


def test_change_of_mind_is_between_neighbours() -> None:
    leaves_N = np.zeros(5, dtype=int)
    changes = [exit_behaviour(ANSWERS, exit_, leaves_N, "label_QCD").change_of_mind for exit_ in range(3)]
    assert changes[0] is not None
    assert changes[1] is not None
    assert (changes[0].value, changes[1].value, changes[2]) == (3 / 5, 0, None)


def test_calibration_of_all_and_of_those_who_leave() -> None:
    found = exit_behaviour(ANSWERS, 0, np.array([0, 1, 0, 2, 2]), "label_QCD")
    assert found.expected_calibration_error == pytest.approx(0.9 - 2 / 5)  # all say 0.9, 2 of 5 are right
    assert found.leaving_calibration_error == pytest.approx(0.1)  # both are right
    assert found.leaving_jets == 2
    nobody = exit_behaviour(ANSWERS, 1, np.zeros(5, dtype=int), "label_QCD")
    assert (nobody.leaving_jets, nobody.leaving_calibration_error) == (0, None)


def test_failure_auroc_is_that_of_the_confidence() -> None:
    logits_ENK = np.log([[[0.6, 0.3, 0.1], [0.9, 0.05, 0.05], [0.4, 0.3, 0.3]]] * 2).astype(np.float32)
    label_N = np.array([1, 0, 0])  # wrong with confidence 0.6; right with 0.9 and with 0.4
    found = exit_behaviour(answers(logits_ENK, label_N), 0, np.zeros(3, dtype=int), "label_QCD")
    assert found.failure_auroc == 0.5
    perfect = exit_behaviour(answers(logits_ENK, np.zeros(3, dtype=int)), 0, np.zeros(3, dtype=int), "label_QCD")
    assert perfect.failure_auroc is None


def test_the_last_exit_costs_what_the_full_model_costs() -> None:
    shares = [
        exit_behaviour(ANSWERS, exit_, np.zeros(5, dtype=int), "label_QCD").all_leave.macs_share for exit_ in range(3)
    ]
    assert shares[0] < shares[1] < shares[2] == 1


def test_counts_per_class() -> None:
    assert exits_per_class(ANSWERS, np.array([0, 1, 1, 2, 2])) == {
        "label_QCD": [1, 0, 0],
        "label_Hbb": [0, 2, 1],
        "label_Other": [0, 0, 1],
    }
