"""Sequences of policies: thresholds midway between the scores of jets, and the family that costs least."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phaze_ee.exits.answers import Answers
from phaze_ee.exits.candidates import Candidate, _midway, candidates, cost_curve
from phaze_ee.exits.fits import fit_temperatures
from phaze_ee.exits.scores import Window, make_score
from phaze_ee.exits.targets import AccuracyDrop, Agreement, NetAccuracyDrop, Target, wrong_answers
from tests.exits.synthetic import costs_of, synthetic_answers

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


def with_copies(jets: Answers, copies: list[int], head: float) -> Answers:
    """Return jets with these exits, in this order, and the full model; a later exit costs a little more."""
    order = [*copies, len(jets.logits_ENK) - 1]
    trunk_EN = jets.costs.trunk_EN[order] + 0.001 * np.arange(len(order))[:, None]
    return replace(jets, logits_ENK=jets.logits_ENK[order], costs=costs_of(trunk_EN, head))


def sequence(jets: Answers) -> list[Candidate]:
    return candidates([make_score("confidence")], jets, AccuracyDrop(epsilon=0.02).shaping_risks(jets))


def offered(found: list[Candidate]) -> set[int]:
    return {exit_ for candidate in found for exit_ in candidate.policy.exits or ()}


@pytest.mark.parametrize("head", [0.0, 0.1])
def test_no_set_of_exits_has_a_cheaper_sequence(head: float) -> None:
    jets = synthetic_answers(2000)
    jets = with_copies(jets, [0, 1], head)
    own = sequence(jets)
    for exits in [exits for size in (1, 2) for exits in combinations(range(2), size)]:
        alone = sequence(jets.with_exits(exits))
        for level in (0.5, 1.0):
            cost, other = (min(one.cost for one in found if one.risk <= level) for found in (own, alone))
            assert cost <= other + 1e-9


@pytest.mark.parametrize("copies", [[0, 1, 1], [0, 0, 0, 1, 1, 1]], ids=["all sets", "one exit less at a time"])
def test_an_exit_that_saves_less_than_its_head_costs_is_not_offered(copies: list[int]) -> None:
    found = sequence(with_copies(synthetic_answers(1000), copies, 0.02))
    assert len(found) > 20
    assert 1 <= len(offered(found)) <= len(set(copies))


@pytest.mark.parametrize(
    ("target", "most"), [(AccuracyDrop(epsilon=0.02), 0.9), (NetAccuracyDrop(epsilon=0.02), 0.7)], ids=["lost", "net"]
)
def test_expected_losses_are_as_many_as_the_counted_ones_and_scatter_less(target: Target, most: float) -> None:
    jets = synthetic_answers(10_000, sharpness=(0.8, 1.6, 2.4))
    jets = jets.tempered(fit_temperatures(jets))
    counted, expected = target.risks(jets)[0], target.shaping_risks(jets)[0]
    for exit_ in range(3):
        assert expected.expected(jets.all_at(exit_)) == pytest.approx(counted.expected(jets.all_at(exit_)))
    # Jets that leave at exit 0 if it is sure; in the parts of a random division.
    index_N = np.where(jets.scores(make_score("confidence"))[0] > 0.6, 0, 2)
    for risk in (counted, expected):
        assert risk.expected(index_N) == pytest.approx(counted.expected(index_N), rel=0.4)
    parts = [np.arange(len(jets)) % 40 == part for part in range(40)]
    scatter = [
        np.std([risk.within("part", part_N).expected(index_N) for part_N in parts]) for risk in (counted, expected)
    ]
    assert scatter[1] < most * scatter[0]
