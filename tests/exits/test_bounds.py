"""Bounds of risks against known values, and the choice of the last policy that passes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from phaze_ee.exits.bounds import (
    binomial_p_value,
    jets_needed,
    last_conformal,
    last_passing,
    upper_bound,
)


def test_p_values_of_the_reference() -> None:
    # reference/early_exit.md: epsilon = 0.005 with 0.003 observed passes at n = 5,000 and not at n = 1,000.
    assert binomial_p_value(15, 5000, 0.005) == pytest.approx(0.022, abs=5e-4)
    assert binomial_p_value(3, 1000, 0.005) == pytest.approx(0.26, abs=5e-3)


def test_without_jets_nothing_is_shown() -> None:
    assert binomial_p_value(0, 0, 0.1) == 1.0
    assert upper_bound(0, 0, 0.05) == 1.0
    assert binomial_p_value(0, 1, 0.1) == pytest.approx(0.9)


@given(st.integers(1, 300), st.floats(0.01, 0.5), st.floats(0.01, 0.3))
def test_the_upper_limit_is_where_the_test_just_passes(jets: int, share: float, delta: float) -> None:
    losses = int(share * jets)
    limit = upper_bound(losses, jets, delta)
    assert binomial_p_value(losses, jets, min(limit + 1e-9, 1.0)) <= delta + 1e-6
    assert binomial_p_value(losses, jets, limit - 1e-6) > delta - 1e-4


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([], None),
        ([0.06], None),
        ([0.05], 0),
        ([0.01, 0.02, 0.05], 2),
        ([0.01, 0.02, 0.06, 0.01], 1),
        ([0.2, 0.0, 0.0], None),
    ],
)
def test_the_last_policy_before_the_first_that_fails_is_chosen(p_values: list[float], expected: int | None) -> None:
    assert last_passing(p_values, 0.05) == expected


def test_conformal_risk_control_keeps_a_margin_of_one_jet() -> None:
    # ((n + 1) * epsilon - 1) / n = 0.0402 for n = 99 and epsilon = 0.05
    assert last_conformal([0.0, 0.04, 0.05], [99] * 3, 0.05) == 1
    assert last_conformal([0.05], [99], 0.05) is None
    assert last_conformal([0.0], [0], 0.05) is None


@given(st.floats(0.001, 0.3), st.floats(0.0, 0.9), st.floats(0.01, 0.3))
def test_so_many_jets_show_it_and_one_fewer_does_not(epsilon: float, part: float, delta: float) -> None:
    rate = part * epsilon
    count = jets_needed(rate, epsilon, delta)
    assert count is not None
    assert binom.cdf(math.ceil(count * rate), count, epsilon) <= delta
    if count > 1 and rate == 0:
        assert binom.cdf(0, count - 1, epsilon) > delta


def test_no_number_of_jets_shows_a_risk_that_is_too_high() -> None:
    assert jets_needed(0.01, 0.01, 0.05) is None
    assert jets_needed(0.0, 0.01, 0.05) == 299  # ln 0.05 / ln 0.99


def test_the_promise_is_broken_no_more_often_than_stated() -> None:
    """A sequence of policies with risks from 0 to 0.1; the chosen one is above 0.05 in at most delta of samples."""
    rng = np.random.default_rng(3)
    true_risk = np.linspace(0.0, 0.1, 41)
    broken, chosen_risk = 0, []
    for _ in range(1000):
        losses = (rng.uniform(size=(400, 1)) < true_risk).sum(axis=0)  # the same jets for all policies
        index = last_passing((binomial_p_value(int(lost), 400, 0.05) for lost in losses), 0.1)
        assert index is not None
        broken += bool(true_risk[index] > 0.05)
        chosen_risk.append(true_risk[index])
    assert broken <= binom.ppf(0.999, 1000, 0.1)
    assert np.mean(chosen_risk) > 0.05 / 2
