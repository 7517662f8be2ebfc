"""Bias, resolution and response of predictions, with errors that simulations confirm."""

import numpy as np
import pytest
from scipy.stats import norm

from phaze_ee.evaluation.regression import evaluate_targets
from phaze_ee.exits.answers import Predictions
from phaze_ee.results.evaluation import TargetEvaluation

RANDOM = np.random.default_rng(5)


def judged(value_N: np.ndarray, target_N: np.ndarray) -> TargetEvaluation:
    predictions = Predictions(("mass",), value_N[None, :, None], target_N[:, None])
    found = evaluate_targets(predictions, np.zeros(len(value_N), dtype=int))
    assert found is not None
    return found["mass"]


def test_predictions_with_a_known_shift_and_width() -> None:
    target_N = RANDOM.uniform(50, 150, 40_000)
    found = judged(target_N + RANDOM.normal(3, 10, 40_000), target_N)
    one_sigma = (norm.ppf(0.84) - norm.ppf(0.16)) / 2
    assert found.bias == pytest.approx(3, abs=4 * found.bias_error)
    assert found.resolution == pytest.approx(10 * one_sigma, abs=4 * found.resolution_error)
    assert found.target_spread == pytest.approx(34, rel=0.02)  # 68 % of a flat distribution, 100 wide
    assert found.jets == 40_000
    scaled = judged(target_N * RANDOM.normal(1.1, 0.2, 40_000), target_N)
    assert scaled.response == pytest.approx(1.1, abs=4 * (scaled.response_error or 0))
    assert scaled.response_resolution == pytest.approx(0.2 * one_sigma, rel=0.03)


def test_the_errors_are_those_of_repeated_samples() -> None:
    jets, ones = 2_000, np.ones(2_000)
    found = [judged(ones + RANDOM.normal(0, 1, jets), ones) for _ in range(500)]
    for figure in ("bias", "resolution", "response", "response_resolution"):
        spread = np.std([getattr(one, figure) for one in found])
        assert np.mean([getattr(one, f"{figure}_error") for one in found]) == pytest.approx(spread, rel=0.12), figure


def test_targets_that_are_not_all_positive_have_no_response() -> None:
    target_N = np.array([1.0, 0.0, 2.0, 3.0])
    found = judged(target_N + 1, target_N)
    assert (found.bias, found.resolution) == (1, 0)
    assert (found.response, found.response_error, found.response_resolution) == (None, None, None)
    assert found.response_resolution_error is None


def test_each_jet_counts_where_it_leaves() -> None:
    value_ENR = np.array([[[1.0, 10], [2, 20], [3, 30]], [[4, 40], [5, 50], [6, 60]]])
    predictions = Predictions(("a", "b"), value_ENR, np.zeros((3, 2)))
    found = evaluate_targets(predictions, np.array([0, 1, 1]))
    assert found is not None
    assert {name: own.bias for name, own in found.items()} == {"a": 5, "b": 50}
    some = evaluate_targets(predictions, np.array([0, 1, 1]), np.array([True, False, False]))
    assert some is not None
    assert (some["b"].bias, some["b"].jets) == (10, 1)
    assert evaluate_targets(predictions, np.array([0, 1, 1]), np.zeros(3, dtype=bool)) is None
    assert evaluate_targets(None, np.array([0])) is None
