"""Thresholds lie midway between the scores of jets, so that rounding moves no jet to the other side."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phaze_ee.exits.candidates import _midway, candidates, cost_curve
from phaze_ee.exits.scores import Window, make_score
from phaze_ee.exits.targets import Agreement, wrong_answers
from tests.exits.synthetic import synthetic_answers

JETS = synthetic_answers(300)
SCORES = [make_score("confidence"), make_score("entropy"), make_score("margin"), make_score("patience")]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.data())
def test_a_threshold_is_reached_by_the_largest_scores_and_their_equals(
    values: list[float], data: st.DataObject
) -> None:
    rising = np.sort(np.array(values))
    count = data.draw(st.integers(1, len(rising)))
    threshold = _midway(rising, count)
    np.testing.assert_array_equal(rising >= threshold, rising >= rising[-count])
    assert threshold <= rising[-count]


def test_no_jet_leaves_at_infinity() -> None:
    assert _midway(np.array([0.1, 0.7]), 0) == np.inf


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.name)
def test_no_jet_that_shapes_a_policy_sits_on_a_threshold(score: object) -> None:
    found = candidates([score], JETS, Agreement(epsilon=0.2).risks(JETS))  # type: ignore[list-item]
    curve = cost_curve(score, JETS, wrong_answers(JETS), 10)  # type: ignore[arg-type]
    score_EN = JETS.scores(score)  # type: ignore[arg-type]
    finite = 0
    for candidate in [*found, *curve]:
        for threshold, score_N in zip(candidate.policy.thresholds, score_EN, strict=True):
            finite += np.isfinite(threshold)
            if np.isfinite(threshold):
                nearest = np.abs(score_N - threshold).min()
                assert nearest > 1e-9
    assert finite > 5


def test_a_window_stays_on_its_side_of_the_cut() -> None:
    window = Window(signal=1, background=0, cut=0.0)
    for candidate in candidates([window], JETS, Agreement(epsilon=0.4).risks(JETS)):
        assert min(candidate.policy.thresholds) >= 0
