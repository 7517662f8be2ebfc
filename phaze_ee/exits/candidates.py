"""Fits sequences of threshold policies: by cost and risk on the jets that shape them, and by a budget alone."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

import numpy as np
import numpy.typing as npt

from phaze_ee.exits.answers import Answers, ExitIndex
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import ExitScore
from phaze_ee.exits.targets import Risk
from phaze_ee.shapes import Float, Int
from phaze_ee.stats import pareto_front

ItemT = TypeVar("ItemT")

# Prices of a loss, in units of the full model's cost for the whole ε: from "never" to "hardly anything".
_PRICES = np.geomspace(1e3, 1e-3, 80)
_SWEEPS = 20
# Steps between two neighbours on the path, as fractions of the way. From its start, where the jets that shape the
# policy see no loss but others may, the steps are dense near the end, where cost and risk change most.
_STEPS = np.linspace(0, 1, 11)[1:]
_FIRST_STEPS = 1 - np.geomspace(1, 1e-3, 40)
# Policies with more than this many times the allowed risk on these jets need no test on others.
_HOPELESS = 3.0

Scores = Float[np.ndarray, "E-1 N"]
Thresholds = Float[np.ndarray, " E-1"]


@final
@dataclass(frozen=True)
class Candidate:
    """A policy with its mean cost, and its largest risk in units of ε, on the jets that shaped it."""

    policy: ThresholdPolicy
    cost: float
    risk: float


def candidates(scores: Sequence[ExitScore], answers: Answers, risks: Sequence[Risk]) -> list[Candidate]:
    """Return policies from the safest to the fastest, each cheaper than all that are safer.

    They minimise mean cost + price · Σ risk/ε for many prices of a loss. Between neighbours on this path, and before
    its start, the ranks of the thresholds are interpolated.

    Args:
        scores: the scores to try.
        answers: for the jets that shape the policies, with costs as shares of the full model's.
        risks: what is held down, on the same jets.
    """
    found = [candidate for score in scores for candidate in _candidates(score, answers, risks)]
    chosen: list[Candidate] = []
    # Of two policies with equal risk on these jets, the more costly one is the safer.
    for candidate in sorted(found, key=lambda candidate: (candidate.risk, -candidate.cost)):
        saves = bool(candidate.policy.exits) and candidate.cost < (chosen[-1].cost if chosen else 1.0)
        if saves and candidate.risk <= _HOPELESS:
            chosen.append(candidate)
    return chosen


def cost_curve(score: ExitScore, answers: Answers, risk: Risk, points: int) -> list[Candidate]:
    """Return policies by rising mean cost and falling risk, spread evenly over the costs, and the full model last.

    They come from two families: minima of mean cost + price · risk, and budgeted thresholds (MSDNet,
    arXiv:1703.09844), where fractions q_k ∝ ratio^k of the jets leave at exit k.

    Args:
        score: the exit score.
        answers: for the jets that shape the policies.
        risk: on the same jets.
        points: how many policies to return at most.
    """
    score_EN = answers.scores(score)
    budgeted = (_budgeted(score_EN, float(ratio)) for ratio in np.geomspace(1e-3, 1e3, 400))
    path = _path(score_EN, answers, [risk], score.lowest)
    found = [_evaluate(score, thresholds, score_EN, answers, [risk]) for thresholds in itertools.chain(budgeted, path)]
    front = pareto_front(found, lambda candidate: (candidate.cost, candidate.risk))
    costs = np.array([candidate.cost for candidate in front])
    wanted = np.linspace(costs.min(), costs.max(), points - 1)
    chosen = [front[index] for index in sorted({int(np.abs(costs - cost).argmin()) for cost in wanted})]
    never = np.full(answers.exit_count, np.inf)
    return [*chosen, _evaluate(score, never, score_EN, answers, [risk])]


def _candidates(score: ExitScore, answers: Answers, risks: Sequence[Risk]) -> Iterator[Candidate]:
    score_EN = answers.scores(score)
    path = [np.full(answers.exit_count, np.inf), *_path(score_EN, answers, risks, score.lowest)]
    for number, (before, after) in enumerate(itertools.pairwise(path)):
        if np.array_equal(before, after):
            continue
        for thresholds in _between(before, after, score_EN, _STEPS if number else _FIRST_STEPS, score.lowest):
            yield _evaluate(score, thresholds, score_EN, answers, risks)


def _evaluate(
    score: ExitScore, thresholds: Thresholds, score_EN: Scores, answers: Answers, risks: Sequence[Risk]
) -> Candidate:
    index_N = _leaves_at(score_EN, thresholds)
    observed = [risk.observed(index_N) for risk in risks]
    worst = max(lost / max(count, 1) / risk.epsilon for (lost, count), risk in zip(observed, risks, strict=True))
    return Candidate(ThresholdPolicy(score, thresholds.tolist()), answers.costs.mean(index_N), worst)


def _leaves_at(score_EN: Scores, thresholds: Thresholds) -> ExitIndex:
    leaves_EN = np.concatenate([score_EN >= thresholds[:, None], np.ones((1, score_EN.shape[1]), dtype=bool)])
    index_N: npt.NDArray[np.int64] = leaves_EN.argmax(axis=0)
    return index_N


def _between(
    before: Thresholds, after: Thresholds, score_EN: Scores, steps: Float[np.ndarray, " S"], lowest: float
) -> Iterator[Thresholds]:
    """Yield thresholds between two sets, and the second set; steps are fractions of the jets between the two."""
    sorted_EN = np.sort(score_EN, axis=1)
    ranks = [(score_EN >= thresholds[:, None]).sum(axis=1) for thresholds in (before, after)]
    for step in steps[steps < 1]:
        rank_E = np.rint(ranks[0] + (ranks[1] - ranks[0]) * step).astype(int)
        yield np.array([max(_midway(scores, rank), lowest) for scores, rank in zip(sorted_EN, rank_E, strict=True)])
    yield after


def _path(score_EN: Scores, answers: Answers, risks: Sequence[Risk], lowest: float) -> Iterator[Thresholds]:
    """Yield the thresholds that minimise mean cost + price · Σ risk/ε, for falling prices."""
    order_EN = np.argsort(-score_EN, axis=1, kind="stable")
    penalty_EN = np.sum([risk.penalty_EN for risk in risks], axis=0)
    cost_EN = answers.costs.weight_N * answers.costs.all_heads_EN / len(answers)
    thresholds = np.full(answers.exit_count, np.inf)
    for price in _PRICES:
        thresholds = _descend(score_EN, order_EN, cost_EN + price * penalty_EN, thresholds, lowest)
        yield thresholds


def _descend(
    score_EN: Scores,
    order_EN: Int[np.ndarray, "E-1 N"],
    total_EN: Float[np.ndarray, "E N"],
    thresholds: Thresholds,
    lowest: float,
) -> Thresholds:
    """Minimise the total exactly in one threshold at a time, until none changes."""
    for _ in range(_SWEEPS):
        before, thresholds = thresholds, thresholds.copy()
        for index in reversed(range(len(thresholds))):
            thresholds[index] = _best_threshold(index, score_EN, order_EN[index], total_EN, thresholds, lowest)
        if np.array_equal(before, thresholds):
            break
    return thresholds


def _best_threshold(
    index: int,
    score_EN: Scores,
    order_N: Int[np.ndarray, " N"],
    total_EN: Float[np.ndarray, "E N"],
    thresholds: Thresholds,
    lowest: float,
) -> float:
    """Return the threshold of one exit that minimises the total, all others fixed."""
    reaches_N = (score_EN[:index] < thresholds[:index, None]).all(axis=0) & (score_EN[index] >= lowest)
    later_N = index + 1 + _leaves_at(score_EN[index + 1 :], thresholds[index + 1 :])
    gain_N = np.take_along_axis(total_EN, later_N[None], axis=0)[0] - total_EN[index]
    order = order_N[reaches_N[order_N]]
    value_N = score_EN[index, order]
    # A threshold can lie only between jets with different scores; the last jet is followed by -inf.
    ends = np.flatnonzero(np.diff(value_N, append=-np.inf) < 0)
    if len(ends) == 0:
        return np.inf
    gains = gain_N[order].cumsum()[ends]
    best = int(gains.argmax())
    if gains[best] <= 0:
        return np.inf
    return max(_midway(value_N[::-1], int(ends[best]) + 1), lowest)


def _budgeted(score_EN: Scores, ratio: float) -> Thresholds:
    """Return T_k, just below the ⌊N q_k⌋-th largest score at exit k among the jets left (arXiv:1703.09844)."""
    exits, jets = score_EN.shape
    fraction_E = ratio ** np.arange(exits + 1, dtype=np.float64)
    leaving_E = np.floor(jets * fraction_E / fraction_E.sum()).astype(int)
    stays_N = np.ones(jets, dtype=bool)
    thresholds = np.full(exits, np.inf)
    for index, (score_N, leaving) in enumerate(zip(score_EN, leaving_E[:-1], strict=True)):
        left = np.sort(score_N[stays_N])
        thresholds[index] = _midway(left, min(leaving, len(left)))
        stays_N &= score_N < thresholds[index]
    return thresholds


def _midway(rising_N: Float[np.ndarray, " N"], count: int) -> float:
    """Return the threshold that the ``count`` largest scores reach, and those equal to them; ∞ for none.

    It lies midway to the next lower score, so that rounding moves no jet to the other side. Below the lowest score, it
    is as far away as if there were one more at the distance of the second lowest.
    """
    if count == 0:
        return np.inf
    last = rising_N[-count]
    place = int(np.searchsorted(rising_N, last))
    if place > 0:
        middle, below = (last + rising_N[place - 1]) / 2, rising_N[place - 1]
        return float(middle if middle > below else last)
    above = int(np.searchsorted(rising_N, last, side="right"))
    gap = rising_N[above] - last if above < len(rising_N) else 1.0
    return float(last - gap / 2)
