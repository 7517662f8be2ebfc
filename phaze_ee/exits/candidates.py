"""Policies to choose from: by cost and risk on the jets that shape them, and by a budget alone."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

import numpy as np
import numpy.typing as npt

from phaze_ee.exits.answers import CalibrationJets, FloatArray
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import ExitScore
from phaze_ee.exits.targets import Risk

ItemT = TypeVar("ItemT")

# Prices of a loss, in full models' costs for the whole ε: from "never" to "hardly any".
_PRICES = np.geomspace(1e3, 1e-3, 80)
_SWEEPS = 20
# Where to stop between two neighbours on the path, as shares of the way; and on the way to its start, at which the
# jets that shape the policy know of no loss and others may: dense near the end, where cost and risk change most.
_STEPS = np.linspace(0, 1, 11)[1:]
_FIRST_STEPS = 1 - np.geomspace(1, 1e-3, 40)
# Policies with more than so many times the allowed risk on these jets need no test on others.
_HOPELESS = 3.0


@final
@dataclass(frozen=True)
class Candidate:
    """A policy with its mean cost, and its largest risk in units of ε, on the jets that shaped it."""

    policy: ThresholdPolicy
    cost: float
    risk: float


def candidates(scores: Sequence[ExitScore], jets: CalibrationJets, risks: Sequence[Risk]) -> list[Candidate]:
    """Return policies from the safest to the fastest, each cheaper than all that are safer.

    They minimise mean cost + price · Σ risk/ε for many prices of a loss; between two neighbours on this path, and
    before its start, the ranks of the thresholds are interpolated.
    """
    found = [candidate for score in scores for candidate in _candidates(score, jets, risks)]
    chosen: list[Candidate] = []
    # Of equal risk on these jets, the one that costs more is the safer.
    for candidate in sorted(found, key=lambda candidate: (candidate.risk, -candidate.cost)):
        if candidate.risk <= _HOPELESS and candidate.cost < (chosen[-1].cost if chosen else 1.0):
            chosen.append(candidate)
    return chosen


def _candidates(score: ExitScore, jets: CalibrationJets, risks: Sequence[Risk]) -> Iterator[Candidate]:
    score_EN = jets.scores(score)
    path = [np.full(jets.exit_count, np.inf), *_path(score_EN, jets, risks, score.lowest)]
    for number, (before, after) in enumerate(itertools.pairwise(path)):
        if np.array_equal(before, after):
            continue
        for thresholds in _between(before, after, score_EN, _STEPS if number else _FIRST_STEPS):
            yield _judge(score, thresholds, score_EN, jets, risks)


def _judge(
    score: ExitScore, thresholds: FloatArray, score_EN: FloatArray, jets: CalibrationJets, risks: Sequence[Risk]
) -> Candidate:
    index_N = _leaves_at(score_EN, thresholds)
    observed = [risk.observed(index_N) for risk in risks]
    worst = max(lost / max(count, 1) / risk.epsilon for (lost, count), risk in zip(observed, risks, strict=True))
    return Candidate(ThresholdPolicy(score, thresholds.tolist()), jets.mean_cost(index_N), worst)


def _leaves_at(score_EN: FloatArray, thresholds: FloatArray) -> npt.NDArray[np.int64]:
    leaves_EN = np.concatenate([score_EN >= thresholds[:, None], np.ones((1, score_EN.shape[1]), dtype=bool)])
    index_N: npt.NDArray[np.int64] = leaves_EN.argmax(axis=0)
    return index_N


def _between(before: FloatArray, after: FloatArray, score_EN: FloatArray, shares: FloatArray) -> Iterator[FloatArray]:
    """Yield thresholds on the way from one set to another, and these; ``shares`` are of the jets between the two."""
    sorted_EN = -np.sort(-score_EN, axis=1)
    ranks = [(score_EN >= thresholds[:, None]).sum(axis=1) for thresholds in (before, after)]
    for share in shares[shares < 1]:
        rank_E = np.rint(ranks[0] + (ranks[1] - ranks[0]) * share).astype(int)
        inside = np.take_along_axis(sorted_EN, np.maximum(rank_E - 1, 0)[:, None], axis=1)[:, 0]
        yield np.where(rank_E > 0, inside, np.inf)
    yield after


def _path(score_EN: FloatArray, jets: CalibrationJets, risks: Sequence[Risk], lowest: float) -> Iterator[FloatArray]:
    order_EN = np.argsort(-score_EN, axis=1, kind="stable")
    penalty_EN = np.sum([risk.penalty_EN for risk in risks], axis=0)
    thresholds = np.full(jets.exit_count, np.inf)
    for price in _PRICES:
        total_EN = jets.weight_N * jets.cost_EN / len(jets) + price * penalty_EN
        thresholds = _descend(score_EN, order_EN, total_EN, thresholds, lowest)
        yield thresholds


def _descend(
    score_EN: FloatArray,
    order_EN: npt.NDArray[np.int64],
    total_EN: FloatArray,
    thresholds: FloatArray,
    lowest: float,
) -> FloatArray:
    """Minimise the total by one threshold at a time, exactly, until none moves."""
    for _ in range(_SWEEPS):
        before, thresholds = thresholds, thresholds.copy()
        for index in reversed(range(len(thresholds))):
            thresholds[index] = _best_threshold(index, score_EN, order_EN[index], total_EN, thresholds, lowest)
        if np.array_equal(before, thresholds):
            break
    return thresholds


def _best_threshold(
    index: int,
    score_EN: FloatArray,
    order_N: npt.NDArray[np.int64],
    total_EN: FloatArray,
    thresholds: FloatArray,
    lowest: float,
) -> float:
    """Return the threshold of one exit at which the total is least, all others fixed."""
    reaches_N = (score_EN[:index] < thresholds[:index, None]).all(axis=0) & (score_EN[index] >= lowest)
    later_N = index + 1 + _leaves_at(score_EN[index + 1 :], thresholds[index + 1 :])
    gain_N = np.take_along_axis(total_EN, later_N[None], axis=0)[0] - total_EN[index]
    order = order_N[reaches_N[order_N]]
    value_N = score_EN[index, order]
    # Only between jets that score differently can a threshold lie; -inf stands behind the last.
    ends = np.flatnonzero(np.diff(value_N, append=-np.inf) < 0)
    if len(ends) == 0:
        return np.inf
    gains = gain_N[order].cumsum()[ends]
    best = int(gains.argmax())
    if gains[best] <= 0:
        return np.inf
    end = ends[best]
    below = value_N[end + 1] if end + 1 < len(value_N) else value_N[end]
    return float(max((value_N[end] + below) / 2, lowest))


def pareto_front(found: Iterable[ItemT], cost_and_risk: Callable[[ItemT], tuple[float, float]]) -> list[ItemT]:
    """Return what nothing else beats, by rising cost and falling risk."""
    front: list[ItemT] = []
    for item in sorted(found, key=cost_and_risk):
        if not front or cost_and_risk(item)[1] < cost_and_risk(front[-1])[1]:
            front.append(item)
    return front


def cost_curve(score: ExitScore, jets: CalibrationJets, risk: Risk, points: int) -> list[Candidate]:
    """Return policies by ascending mean cost and falling risk, spread evenly over the costs, and the full model last.

    They come from two families: minima of cost + price · risk, and budgeted thresholds (MSDNet, arXiv:1703.09844),
    which send fractions q_k ∝ ratio^k of the jets home at exit k.
    """
    score_EN = jets.scores(score)
    budgeted = (_budgeted(score_EN, float(ratio)) for ratio in np.geomspace(1e-3, 1e3, 400))
    found = [_judge(score, thresholds, score_EN, jets, [risk]) for thresholds in budgeted]
    found += [
        _judge(score, thresholds, score_EN, jets, [risk]) for thresholds in _path(score_EN, jets, [risk], score.lowest)
    ]
    front = pareto_front(found, lambda candidate: (candidate.cost, candidate.risk))
    costs = np.array([candidate.cost for candidate in front])
    wanted = np.linspace(costs.min(), costs.max(), points - 1)
    chosen = [front[index] for index in sorted({int(np.abs(costs - cost).argmin()) for cost in wanted})]
    never = np.full(jets.exit_count, np.inf)
    return [*chosen, _judge(score, never, score_EN, jets, [risk])]


def _budgeted(score_EN: FloatArray, ratio: float) -> FloatArray:
    """Return T_k, the ⌊N q_k⌋-th largest score at exit k among the jets that are still there."""
    exits, jets = score_EN.shape
    fraction_E = ratio ** np.arange(exits + 1, dtype=np.float64)
    leaving_E = np.floor(jets * fraction_E / fraction_E.sum()).astype(int)
    stays_N = np.ones(jets, dtype=bool)
    thresholds = np.full(exits, np.inf)
    for index, (score_N, leaving) in enumerate(zip(score_EN, leaving_E[:-1], strict=True)):
        there = np.sort(score_N[stays_N])[::-1]
        if leaving > 0 and len(there):
            thresholds[index] = there[min(leaving, len(there)) - 1]
        stays_N &= score_N < thresholds[index]
    return thresholds
