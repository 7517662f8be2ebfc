"""The score of a cascade: defined for all jets, and rejected jets lie below all others."""

import math

import numpy as np
import pytest

from phaze_ee.exits.calibrate import Settings, calibrate
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import Window
from phaze_ee.exits.targets import SignalEfficiency
from phaze_ee.runtime.cascade import Cascade
from tests.exits.synthetic import synthetic_answers
from tests.exits.test_calibrate import TARGETS

SCORE = {"name": "window", "signal": 1, "background": 0, "cut": 2.0, "accept": 0.0}
CASCADE = Cascade(signal=1, background=0, last=2)


def test_jets_that_stay_have_the_discriminant_and_rejected_ones_are_ordered_by_exit() -> None:
    score_NK = np.array([[0.1, 0.3, 0.6], [0.5, 0.5, 0.0], [0.9, 0.1, 0.0], [0.9, 0.1, 0.0]], np.float32)
    found = CASCADE.scores(score_NK, np.array([2, 2, 1, 0]))
    np.testing.assert_allclose(found, [0.75, 0.5, -0.9, -1.9], atol=1e-6)
    assert found.dtype == np.float64


def test_rejected_jets_lie_below_the_least_of_the_others_whatever_rounds() -> None:
    likely = [[0, 1], [1e-9, 1 - 1e-9], [0.5, 0.5], [1, 0], [1, 1e-30], [1, 1e-45], [0, 0], [0, 1e-45]]
    score_NK = np.array(likely, np.float32)
    jets = len(score_NK)
    stay_N, rejected_N = (CASCADE.scores(score_NK, np.full(jets, index)) for index in (2, 1))
    assert np.isfinite([stay_N, rejected_N]).all()
    assert rejected_N.max() < 0 <= stay_N.min()
    assert (CASCADE.scores(score_NK, np.zeros(jets, int)) <= rejected_N.min()).all()
    assert stay_N[1] < stay_N[0]  # 1 − 1e-9 is not 1


def test_jets_that_a_budget_stops_are_not_rejected() -> None:
    score_NK = np.array([[0.25, 0.75], [0.25, 0.75]], np.float32)
    found = CASCADE.scores(score_NK, np.array([0, 0]), np.array([True, False]))
    np.testing.assert_allclose(found, [0.75, -1.25])


@pytest.mark.parametrize(
    ("score", "thresholds", "last"),
    [
        (SCORE, [1.0, 0.0], 2),
        (SCORE, [1.0, math.inf], 2),
        (SCORE, [math.inf, math.inf], 2),
        (SCORE, [1.0, -math.inf, math.inf], 1),
        (SCORE, [1.0, -0.5], None),
        (SCORE | {"accept": 0.5}, [1.0, 1.0], None),
        ({"name": "confidence"}, [0.9, 0.9], None),
        (None, None, None),
    ],
)
def test_only_policies_that_reject_are_cascades(
    score: dict[str, object] | None, thresholds: list[float] | None, last: int | None
) -> None:
    assert Cascade.of(score, thresholds) == (None if last is None else Cascade(1, 0, last))


def test_a_cap_is_the_last_exit() -> None:
    policy = ThresholdPolicy(Window(signal=1, background=0, cut=2.0), [1.0, 1.0])
    assert policy.cascade == CASCADE
    assert policy.capped(1).cascade == Cascade(1, 0, 1)


def test_a_cut_on_it_keeps_the_jets_that_the_policy_accepts() -> None:
    result = calibrate(synthetic_answers(4000), Settings(TARGETS["reject"]))
    assert isinstance(result.target, SignalEfficiency)
    assert result.target.cut is not None
    cascade = result.policy.cascade
    assert cascade is not None
    index_N = result.testing.exit_index(result.policy)
    logits_NK = result.testing.mixture(index_N).astype(np.float64)
    weight_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    score_N = cascade.scores(weight_NK / weight_NK.sum(axis=1, keepdims=True), index_N)
    rejected_N = index_N < 2
    assert 0 < rejected_N.sum() < len(rejected_N)
    assert score_N[rejected_N].max() < score_N[~rejected_N].min()
    accepted_N = logits_NK[:, 1] - logits_NK[:, 0] >= result.target.cut
    np.testing.assert_array_equal(score_N >= 1 / (1 + math.exp(-result.target.cut)) - 1e-12, accepted_N)
