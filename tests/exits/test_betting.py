"""Bets against net losses: the test keeps its level, and agrees with its limit."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from phaze_ee.exits.betting import NetLosses

DELTA = 0.05


def drawn(lost: float, gained: float, jets: int, count: int) -> list[NetLosses]:
    rows = np.random.default_rng(1).multinomial(jets, [lost, gained, 1 - lost - gained], size=count)
    return [NetLosses(int(row[0]), int(row[1]), jets) for row in rows]


@pytest.mark.parametrize(("lost", "gained"), [(0.01, 0.0), (0.03, 0.02), (0.4, 0.39)])
def test_a_loss_at_the_limit_passes_with_at_most_the_probability_delta(lost: float, gained: float) -> None:
    samples = drawn(lost, gained, 3000, 4000)
    bet = samples[0].bet(3000, DELTA)
    passed = np.mean([sample.p_value(lost - gained, bet) <= DELTA for sample in samples[1:]])
    assert passed <= DELTA
    assert passed > 0.002  # a test that never passes keeps every level


def test_a_small_loss_is_seen_and_offset_jets_count() -> None:
    samples = drawn(0.01, 0.009, 30_000, 400)
    bet = samples[0].bet(30_000, DELTA)
    assert np.mean([sample.p_value(0.005, bet) <= DELTA for sample in samples[1:]]) > 0.95


def test_the_capital_is_the_product_of_the_jets() -> None:
    losses, bet = NetLosses(lost=3, gained=2, jets=50), 0.3
    loss_N = np.array([1] * 3 + [-1] * 2 + [0] * 45)
    assert losses.p_value(0.1, bet) == pytest.approx(1 / np.prod(1 + bet * (0.1 - loss_N)))


def test_the_error_is_that_of_the_mean_of_the_jets() -> None:
    loss_N = np.array([1] * 30 + [-1] * 20 + [0] * 450)
    assert NetLosses(lost=30, gained=20, jets=500).error == pytest.approx(loss_N.std() / math.sqrt(500))


def test_the_limit_is_where_the_test_begins_to_pass() -> None:
    losses = NetLosses(lost=30, gained=20, jets=5000)
    bet = losses.bet(5000, DELTA)
    limit = losses.upper_limit(DELTA, bet)
    assert losses.p_value(limit + 1e-9, bet) <= DELTA < losses.p_value(limit - 1e-9, bet)
    assert 0.002 < limit < 0.01


def test_without_jets_nothing_is_shown() -> None:
    nothing = NetLosses(0, 0, 0)
    assert nothing.p_value(0.1, 0.4) == 1
    assert nothing.upper_limit(DELTA, 0.4) == 1


@pytest.mark.parametrize("pilot", [NetLosses(8, 4, 1000), NetLosses(0, 0, 50), NetLosses(30, 45, 900)])
@pytest.mark.parametrize("delta", [0.05, 0.001])
def test_the_number_of_jets_needed_is_the_least_one(pilot: NetLosses, delta: float) -> None:
    needed = pilot.jets_needed(0.01, delta)
    assert needed is not None
    assert pilot.expected(needed).shows(0.01, delta)
    assert not pilot.expected(needed - 1).shows(0.01, delta)


def test_with_the_number_of_jets_needed_about_half_of_the_calibrations_pass() -> None:
    needed = NetLosses(8, 4, 1000).jets_needed(0.01, DELTA)
    assert needed is not None
    later = drawn(0.008, 0.004, needed, 1000)
    assert 0.4 < np.mean([losses.shows(0.01, DELTA) for losses in later]) < 0.6


def test_no_number_of_jets_shows_a_mean_at_the_limit() -> None:
    assert NetLosses(8, 4, 1000).jets_needed(0.004, DELTA) is None


@pytest.mark.parametrize(("lost", "gained"), [(0.01, 0.0), (0.03, 0.02), (0.012, 0.01), (0.4, 0.39)])
def test_the_conditional_test_keeps_its_level_too(lost: float, gained: float) -> None:
    samples = drawn(lost, gained, 3000, 4000)
    passed = np.mean([sample.conditional_p_value(lost - gained, DELTA) <= DELTA for sample in samples])
    assert passed <= DELTA
    assert passed > 0.0005


def test_where_losses_cancel_the_conditional_test_takes_a_third_fewer_jets() -> None:
    pilot = NetLosses(lost=100, gained=100, jets=12_000)
    assert pilot.best_test(12_000, 0.002, DELTA) == "conditional"
    needed = pilot.jets_needed(0.002, DELTA)
    assert needed is not None
    later = pilot.expected(needed)
    assert later.p_value(0.002, pilot.bet(needed, DELTA)) > 2 * DELTA
    assert NetLosses(14, 3, 12_000).best_test(12_000, 0.002, DELTA) == "binomial"
    assert NetLosses(50, 13, 12_000).best_test(12_000, 0.005, DELTA) == "bet"


def test_the_conditional_p_value_is_that_of_the_binomial_law() -> None:
    share = binomtest(30, 1000).proportion_ci(1 - 2 * DELTA / 20).high
    expected = DELTA / 20 + binom.cdf(17, 30, (1 + 0.01 / share) / 2)
    assert NetLosses(17, 13, 1000).conditional_p_value(0.01, DELTA) == pytest.approx(expected)
    assert NetLosses(0, 0, 10_000).conditional_p_value(0.01, DELTA) == pytest.approx(DELTA / 20)
    assert NetLosses(3, 0, 100).conditional_p_value(0.0, DELTA) == 1


def test_both_limits_are_where_their_test_begins_to_pass() -> None:
    losses = NetLosses(lost=30, gained=28, jets=5000)
    limit = losses.upper_limit(DELTA, 0.0, "conditional")
    assert losses.conditional_p_value(limit + 1e-9, DELTA) <= DELTA < losses.conditional_p_value(limit - 1e-9, DELTA)
