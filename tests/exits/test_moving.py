"""Moves to safer policies: without a reason they are rare, after a jump they come, and never to a faster one."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from phaze_ee.exits.moving import next_step, share_of_step
from phaze_ee.exits.sequence import log_evidence_now

DELTA, RATE, EPSILON = 0.05, 0.1, 0.02
STEPS_LOSE = np.array([0.02, 0.014, 0.008, 0.003, 0.0])  # of all jets
EARLY = np.array([0.7, 0.65, 0.6, 0.5, 0.0])


def walk(streams: int, factors: list[float], jets: int = 2_000) -> npt.NDArray[np.int64]:
    """Return the step of each stream after each look, whose losses are those of the steps times a factor, (L, S)."""
    random = np.random.default_rng(1)
    steps, now_S = len(STEPS_LOSE), np.zeros(streams, dtype=np.int64)
    total_LSR4 = np.zeros((1, streams, steps, 4), dtype=np.int64)
    largest_SR, found = np.full((streams, steps), -np.inf), []
    for factor in factors:
        early_S = random.binomial(jets, EARLY[now_S])
        drawn_S = random.binomial(early_S, RATE)
        lost_SR = random.binomial(
            drawn_S[:, None], np.minimum(1, factor * STEPS_LOSE / np.maximum(EARLY[now_S], 0.5)[:, None])
        )
        seen_SR4 = np.zeros((streams, steps, 4), dtype=np.int64)
        seen_SR4[..., 0], seen_SR4[..., 2], seen_SR4[..., 3] = (jets - early_S)[:, None], drawn_S[:, None], lost_SR
        seen_SR4[np.arange(steps) < now_S[:, None]] = 0  # what faster policies would lose is not known
        total_LSR4 = np.concatenate([total_LSR4, total_LSR4[-1:] + seen_SR4])
        largest_SR = np.maximum(largest_SR, log_evidence_now(total_LSR4, RATE, EPSILON))
        after_S = next_step(total_LSR4, now_S, largest_SR, RATE, EPSILON, DELTA)
        assert (after_S >= now_S).all()
        now_S = after_S
        found.append(now_S)
    return np.array(found)


def test_moves_without_a_reason_are_rare() -> None:
    step_LS = walk(300, [1.0] * 40)
    assert (step_LS[-1] > 0).mean() <= DELTA


def test_after_a_jump_the_policy_moves_to_a_step_that_keeps_the_promise() -> None:
    step_LS = walk(100, [1.0] * 20 + [2.0] * 60)
    assert (step_LS[19] > 0).mean() <= DELTA
    assert (step_LS[-1] == 2).mean() > 0.85  # 0.016 of the jets are lost then, and 0.028 at step 1
    assert (step_LS[-1] < 2).mean() <= 0.1


def test_where_it_moves() -> None:
    assert sum(share_of_step(step, DELTA) for step in range(1_000)) <= DELTA
    limit_R = -np.log([share_of_step(step, DELTA) for step in range(4)])
    assert limit_R[0] == pytest.approx(math.log(2 / DELTA))
    total_LR4 = np.zeros((3, 4, 4), dtype=np.int64)
    total_LR4[1], total_LR4[2] = [1000, 0, 100, 0], [2000, 0, 200, 0]
    total_LR4[2, :, 3] = [90, 4, 1, 0]  # of 2,000 since the first look: 0.45, 0.02 and 0.005

    def moved(step: int, *evidence: float) -> int:
        largest_R = np.array([*evidence, -np.inf])
        return int(next_step(total_LR4, np.array(step), largest_R, RATE, EPSILON, DELTA))

    above = [float(limit) + 0.01 for limit in limit_R]
    assert moved(0, 0, 0, 0) == 0
    assert moved(0, above[0] - 0.02, 0, 0) == 0
    assert moved(0, above[0], 0, 0) == 1
    assert moved(0, above[0], above[1], 0) == 2
    assert moved(0, above[0], above[1], above[2]) == 3
    assert moved(1, above[0], above[1] - 0.02, above[2]) == 1
    assert moved(3, above[0], above[1], above[2]) == 3
    total_LR4[2, 1, 3] = 5  # 0.025 of the jets since the change, and fewer than 0.02 of all
    assert moved(0, above[0], 0, 0) == 2
