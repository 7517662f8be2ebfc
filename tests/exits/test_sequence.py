"""Watching a share with known sampling probabilities: false alarms, coverage, and what is found."""

import math

import numpy as np
import pytest

from phaze_ee.exits.sequence import SeenLosses, counts_of, log_evidence
from phaze_ee.exits.starts import kept_starts, share_of

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


def test_the_limits_lie_just_outside_the_shares_that_are_possible() -> None:
    seen = look(np.random.default_rng(3), 0.05, 0.1)
    for limit, inwards in zip(seen.interval(DELTA), (1.001, 0.999), strict=True):
        logs = [max(seen.log_capital_above(m), seen.log_capital_below(m)) for m in (limit, limit * inwards)]
        assert logs[0] >= math.log(2 / DELTA) > logs[1]


def test_the_capital_is_the_mean_of_the_products_of_the_jets() -> None:
    seen, share = SeenLosses(rate=0.5, jets=9, certain=3, certain_lost=1, drawn=4, drawn_lost=2), 0.3
    gain_N = np.array([1, -share / (1 - share), -share / (1 - share), 1, 1, -share / (1 - share), -share / (1 - share)])
    gain_N *= (1 - share) * np.array([1, 1, 1, 2, 2, 2, 2])
    part_B1 = np.geomspace(1e-3, 0.99, 40)[:, None]
    for found, bet_B1 in (
        (seen.log_capital_above(share), part_B1 * 0.5 / share),
        (seen.log_capital_below(share), -part_B1 * 0.5 / (1 - share)),
    ):
        assert found == pytest.approx(math.log(np.prod(1 + bet_B1 * gain_N, axis=1).mean()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0.0},
        {"rate": 1.5},
        {"certain_lost": 4},
        {"drawn_lost": 5},
        {"drawn_lost": -1},
        {"jets": 6},
        {"early": 8},
        {"early": -1},
    ],
    ids=str,
)
def test_counts_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    counts = {"rate": 0.5, "jets": 9, "certain": 3, "certain_lost": 1, "drawn": 4, "drawn_lost": 2}
    assert SeenLosses.model_validate(counts).share == 5 / 11
    with pytest.raises(ValueError, match="seen"):
        SeenLosses.model_validate(counts | wrong)


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


def test_bets_that_begin_later_find_a_late_change_and_give_no_false_alarm() -> None:
    random, streams, looks, change = np.random.default_rng(5), 200, 80, 60
    share, rate, jets = 0.02, 0.1, 2_000
    early_SL = random.binomial(jets, 0.7, (looks, streams))
    factor_L1 = np.where(np.arange(looks) < change, 1.0, 2.5)[:, None]
    drawn_LS = random.binomial(early_SL, rate)
    lost_LS = random.binomial(drawn_LS, factor_L1 * share / 0.7)
    seen_LS4 = np.stack([jets - early_SL, np.zeros_like(lost_LS), drawn_LS, lost_LS], axis=-1)
    largest_LS = np.maximum.accumulate(log_evidence(seen_LS4, rate, share), axis=0)
    crossed_LS = largest_LS >= math.log(1 / DELTA)
    assert crossed_LS[change - 1].mean() <= DELTA
    assert crossed_LS[-1].mean() > 0.95
    # A quarter less than the limit is lost at first: then bets from the first look alone need much longer.
    seen_LS4[:change, :, 3] = random.binomial(drawn_LS[:change], 0.5 * share / 0.7)
    assert (log_evidence(seen_LS4, rate, share)[-1] >= math.log(1 / DELTA)).mean() > 0.95
    total_S4 = seen_LS4.sum(axis=0)
    whole = [
        SeenLosses(rate=rate, jets=looks * jets, certain=a, certain_lost=b, drawn=c, drawn_lost=d)
        for a, b, c, d in total_S4.tolist()
    ]
    assert np.mean([seen.log_capital_above(share) >= math.log(1 / DELTA) for seen in whole]) < 0.5


def test_the_evidence_after_a_look_is_that_of_all_looks_until_then() -> None:
    random = np.random.default_rng(6)
    looks = [look(random, 0.05, 0.1) for _ in range(9)]
    log_L = log_evidence(counts_of(looks), 0.1, 0.03)
    for count in (1, 2, 9):
        parts = [
            math.log(share_of(start)) + sum(looks[start + 1 : count], looks[start]).log_capital_above(0.03)
            for start in kept_starts(count)
            if start < count
        ]
        assert np.logaddexp.reduce([*parts, math.log(share_of(count))]) == pytest.approx(log_L[count - 1])
    assert log_evidence(counts_of([]), 0.1, 0.03).shape == (0,)


def test_some_bet_is_never_much_older_than_a_change() -> None:
    assert sum(share_of(start) for start in range(100_000)) <= 1
    for now in (1, 7, 100, 1_000):
        kept = kept_starts(now)
        assert kept[0] == 0
        assert len(kept) <= 2 * now.bit_length() + 1
        for change in range(1, now):
            begun = next(start for start in kept if start >= change)
            assert begun - change <= (now - change) / 2 + 1
