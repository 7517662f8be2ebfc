"""Scores that rounding can exchange: thresholds stay out of their midst, and promises hold in single precision."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phaze_ee.exits.answers import Answers, at_exit
from phaze_ee.exits.calibrate import Settings, calibrate
from phaze_ee.exits.rounding import joined, largest_share
from phaze_ee.exits.targets import AccuracyDrop, Agreement
from tests.exits.synthetic import costs_of

Array = npt.NDArray[np.floating]
FINITE = st.floats(-100, 100, width=32)


def jets_of(exit_NK: Array, full_NK: Array, label_N: npt.NDArray[np.int64]) -> Answers:
    """Return answers of one exit, which costs a tenth, and of the full model, in single precision."""
    logits_ENK = np.stack([exit_NK, full_NK]).astype(np.float32)
    names = tuple(f"c{index}" for index in range(logits_ENK.shape[2]))
    count = len(label_N)
    cost_EN = np.array([[0.1], [1.0]]) * np.ones(count)
    return Answers(logits_ENK, label_N, np.ones(count, dtype=int), names, costs_of(cost_EN))


def sure_jets(count: int, scale: float, seed: int) -> Answers:
    """Return jets of two classes whose exit is sure of nearly all: its probabilities are 1 to within rounding."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, 2, count)
    side_N = 2 * label_N - 1
    exit_N, full_N = side_N * 4 + 2.2 * rng.normal(size=count), side_N * 6 + 1.5 * rng.normal(size=count)
    zero_N = np.zeros(count)
    return jets_of(np.stack([zero_N, scale * exit_N], 1), np.stack([zero_N, scale * full_N], 1), label_N)


def same_jets(count: int, wrong: float, seed: int) -> Answers:
    """Return jets to each of which the exit gives one answer, that of its class or, for some, of the next."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, 10, count)
    given_N = np.where(rng.random(count) < wrong, (label_N + 1) % 10, label_N)
    return jets_of(5 * np.eye(10)[given_N], 6 * np.eye(10)[label_N], label_N)


def risk_of(jets: Answers, exit_index_N: npt.NDArray[np.int64]) -> float:
    correct_EN = jets.correct_EN
    return float((correct_EN[-1] & ~at_exit(correct_EN, exit_index_N)).mean())


@given(st.lists(FINITE, min_size=1, max_size=40), st.randoms())
def test_order_is_kept_and_jets_of_a_group_get_its_lowest_score(values: list[float], random: object) -> None:
    random.shuffle(values)  # type: ignore[attr-defined]
    score_N = np.array(values, dtype=np.float32)
    found_N = joined(score_N)
    assert (found_N <= score_N).all()
    order_N = np.argsort(score_N, kind="stable")
    assert (np.diff(found_N[order_N]) >= 0).all()
    for value in np.unique(found_N):
        assert score_N[found_N == value].min() == value


def test_few_neighbours_stay_apart_and_many_do_not() -> None:
    few = np.array([0.1, 0.2, 0.2 + 2e-8, 0.9])
    np.testing.assert_array_equal(joined(few), few)
    many = np.append(np.linspace(1 - 2e-7, 1, 50), np.linspace(0, 0.9, 50))
    assert len(np.unique(joined(many))) == 51
    assert largest_share(many) == 0.5


@pytest.mark.parametrize("scale", [6.0, 12.0, 20.0])
def test_the_promise_holds_where_probabilities_are_one(scale: float) -> None:
    for seed in range(10):
        result = calibrate(sure_jets(3000, scale, seed), Settings(Agreement(epsilon=0.01), temperatures=False))
        others = sure_jets(40_000, scale, 100 + seed)
        assert risk_of(others, others.exit_index(result.policy)) <= 0.0115
        if result.reason is not None and scale == 20:
            assert "of the jets at exit 0, and no threshold may part these; fit_temperatures = True" in result.reason


@pytest.mark.parametrize("temperatures", [True, False])
def test_a_threshold_does_not_part_jets_of_one_score(temperatures: bool) -> None:
    lossy, safe = same_jets(2000, 0.07, 1), same_jets(2000, 0.001, 2)
    settings = Settings(AccuracyDrop(epsilon=0.05), temperatures=temperatures)
    assert calibrate(lossy, settings).policy.exits == ()
    result = calibrate(safe, settings)
    noise = np.random.default_rng(0).normal(scale=1e-6, size=safe.logits_ENK.shape).astype(np.float32)
    other_form = replace(safe, logits_ENK=safe.logits_ENK + noise).tempered(result.policy.temperatures)
    assert (other_form.exit_index(result.policy) == 0).all()


def test_thresholds_are_numbers_of_single_precision() -> None:
    result = calibrate(sure_jets(3000, 1.0, 5), Settings(AccuracyDrop(epsilon=0.02)))
    (threshold,) = result.policy.thresholds
    assert threshold == float(np.float32(threshold))
    jets = result.testing
    expected_N = np.where(jets.scores(result.policy.score)[0] >= np.float32(threshold), 0, 1)
    np.testing.assert_array_equal(jets.exit_index(result.policy), expected_N)
