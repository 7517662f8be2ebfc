"""Watching a share with known sampling probabilities: false alarms, coverage, and what is found."""

import math

import numpy as np
import pytest

from phaze_ee.exits.sequence import SeenLosses

DELTA = 0.05


def look(random: np.random.Generator, share: float, rate: float, jets: int = 2_000) -> SeenLosses:
    """Jets of which 70 % leave early; a tenth of these is seen for certain, the others with probability ``rate``."""
    early = random.binomial(jets, 0.7)
    near = random.binomial(early, 0.1)
    drawn = random.binomial(early - near, rate)
    near_lost, drawn_lost = (random.binomial(count, share / 0.7) for count in (near, drawn))
    certain = jets - early + near
    return SeenLosses(rate=rate, jets=jets, certain=certain, certain_lost=near_lost, drawn=drawn, drawn_lost=drawn_lost)


@pytest.mark.parametrize(("share", "rate"), [(0.02, 0.05), (0.1, 0.01), (0.05, 1.0)])
def test_false_verdicts_are_rare_at_all_looks_together(share: float, rate: float) -> None:
    random = np.random.default_rng(1)
    above = below = outside = 0
    for _ in range(300):
        seen, crossed = look(random, share, rate), [False, False, False]
        for _ in range(30):
            logs = seen.log_capital_above(share), seen.log_capital_below(share)
            crossed[0] |= logs[0] >= math.log(1 / DELTA)
            crossed[1] |= logs[1] >= math.log(1 / DELTA)
            crossed[2] |= max(logs) >= math.log(2 / DELTA)
            seen = seen + look(random, share, rate)
        above, below, outside = above + crossed[0], below + crossed[1], outside + crossed[2]
    # At most 15 of 300 are expected.
    assert max(above, below, outside) <= 15


def test_a_share_that_doubles_is_found() -> None:
    random = np.random.default_rng(2)
    seen = look(random, 0.04, 0.1)
    looks = 1
    while seen.log_capital_above(0.02) < math.log(1 / DELTA):
        seen, looks = seen + look(random, 0.04, 0.1), looks + 1
        assert looks < 40
    assert seen.log_capital_below(0.02) < 0


def test_the_limits_close_around_the_share() -> None:
    random = np.random.default_rng(3)
    seen = look(random, 0.05, 0.1)
    first = seen.interval(DELTA)
    assert first[0] < seen.share < first[1]
    for _ in range(50):
        seen = seen + look(random, 0.05, 0.1)
    last = seen.interval(DELTA)
    assert last[0] < 0.05 < last[1]
    assert last[1] - last[0] < 0.3 * (first[1] - first[0])
    assert seen.log_capital_below(last[1] * 1.02) >= math.log(2 / DELTA)
    assert seen.log_capital_above(last[0] * 0.98) >= math.log(2 / DELTA)


def test_the_jets_that_are_missing() -> None:
    random = np.random.default_rng(4)
    seen = look(random, 0.02, 0.1)
    more = seen.jets_until_known(0.04, DELTA)
    assert more is not None
    factor = 1 + more / seen.drawn
    assert seen.log_capital_below(0.04, factor) >= math.log(1 / DELTA) > seen.log_capital_below(0.04, factor / 1.06)
    nothing = SeenLosses(rate=0.1, jets=10, certain=0, certain_lost=0, drawn=0, drawn_lost=0)
    assert nothing.jets_until_known(0.01, DELTA) is None
    assert nothing.interval(DELTA) == (0, 1)
