"""Fits sequences of threshold policies: by cost and risk on the jets that shape them, and by a budget alone.

A *family* has one score and the exits that it may offer; an exit that is not offered saves its head. The sequence that
is tested is of one family. Policies of two families lose different jets, so a sequence that alternates between them has
more chances that a test fails, and the first failure ends it.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self, TypeVar, final

import numpy as np
import numpy.typing as npt

from phaze_ee.exits.answers import Answers, ExitIndex
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.rounding import joined
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
# A family is judged by its mean cost at these risks, in units of ε, with fewer prices. Tests pass at about such risks.
_LEVELS = (0.5, 1.0)
_FEW_PRICES = _PRICES[::5]
# With more exits, sets of them are searched by leaving out one at a time.
_ALL_SETS = 4
# Policies with more than this many times the allowed risk on these jets need no test on others.
_HOPELESS = 3.0

Scores = Float[np.ndarray, "E-1 N"]
Thresholds = Float[np.ndarray, " E-1"]


@final
@dataclass(frozen=True)
class Candidate:
    """A policy with its mean cost, and its largest expected risk in units of ε, on the jets that shaped it."""

    policy: ThresholdPolicy
    cost: float
    risk: float


def candidates(scores: Sequence[ExitScore], answers: Answers, risks: Sequence[Risk]) -> list[Candidate]:
    """Return policies from the safest to the fastest, each cheaper than all that are safer.

    They minimise mean cost + price · Σ risk/ε for many prices of a loss. Between neighbours on this path, and before
    its start, the ranks of the thresholds are interpolated. All are of the family that costs least at ε and at half of
    it, among all scores and sets of exits; with more than four exits, among all scores, and the sets that are found by
    leaving out the worst exit until this costs more.

    Args:
        scores: the scores to try.
        answers: for the jets that shape the policies, with costs as shares of the full model's.
        risks: what is held down, on the same jets, as expected (:meth:`Target.shaping_risks`) or as counted.
    """
    if not (answers.exit_count and len(answers)):
        return []
    families = [_Family.of(score, answers, risks) for score in scores]
    family = min((family.cheapest() for family in families), key=lambda family: family.level_cost)
    found = family.candidates()
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
    family = _Family.of(score, answers, [risk])
    score_EN = family.score_EN
    budgeted = (_budgeted(score_EN, float(ratio)) for ratio in np.geomspace(1e-3, 1e3, 400))
    found = [family.evaluate(thresholds) for thresholds in itertools.chain(budgeted, family.path(_PRICES))]
    front = pareto_front(found, lambda candidate: (candidate.cost, candidate.risk))
    costs = np.array([candidate.cost for candidate in front])
    wanted = np.linspace(costs.min(), costs.max(), points - 1)
    chosen = [front[index] for index in sorted({int(np.abs(costs - cost).argmin()) for cost in wanted})]
    never = np.full(answers.exit_count, np.inf)
    return [*chosen, family.evaluate(never)]


@final
@dataclass(frozen=True)
class _Family:
    """Policies with one score that offer some of the exits, on the jets that shape them."""

    score: ExitScore
    exits: tuple[int, ...]
    answers: Answers
    risks: Sequence[Risk]
    score_EN: Scores
    order_EN: Int[np.ndarray, "E-1 N"]
    penalty_EN: Float[np.ndarray, "E N"]

    @classmethod
    def of(cls, score: ExitScore, answers: Answers, risks: Sequence[Risk]) -> Self:
        """Return the family that offers all exits."""
        score_EN = np.array([joined(score_N) for score_N in answers.scores(score)]).reshape(-1, len(answers))
        order_EN = np.argsort(-score_EN, axis=1, kind="stable")
        penalty_EN = np.sum([risk.penalty_EN for risk in risks], axis=0)
        return cls(score, tuple(range(answers.exit_count)), answers, risks, score_EN, order_EN, penalty_EN)

    def cheapest(self) -> "_Family":
        """Return the cheapest of the families that offer some of these exits; of equal ones, that with fewer exits."""
        if len(self.exits) <= _ALL_SETS:
            sizes = range(1, len(self.exits) + 1)
            return self._cheapest(exits for size in sizes for exits in itertools.combinations(self.exits, size))
        best = self
        while len(best.exits) > 1:
            fewer = self._cheapest(itertools.combinations(best.exits, len(best.exits) - 1))
            if fewer.level_cost > best.level_cost:
                break
            best = fewer
        return best

    def _cheapest(self, sets: Iterable[tuple[int, ...]]) -> "_Family":
        return min((replace(self, exits=exits) for exits in sets), key=lambda family: family.level_cost)

    @cached_property
    def level_cost(self) -> float:
        """The mean cost at the risks of :data:`_LEVELS`, from few policies with straight lines between them."""
        found = [self.evaluate(thresholds) for thresholds in self.path(_FEW_PRICES)]
        points = sorted([(0.0, 1.0), *((candidate.risk, candidate.cost) for candidate in found)])
        return float(np.interp(_LEVELS, *np.array(points).T).mean())

    def candidates(self) -> Iterator[Candidate]:
        """Yield the policies on the path, and those between neighbours and before its start."""
        path = [np.full(self.answers.exit_count, np.inf), *self.path(_PRICES)]
        for number, (before, after) in enumerate(itertools.pairwise(path)):
            if np.array_equal(before, after):
                continue
            steps = _STEPS if number else _FIRST_STEPS
            yield from map(self.evaluate, _between(before, after, self.score_EN, steps, self.score.lowest))

    def path(self, prices: Float[np.ndarray, " S"]) -> Iterator[Thresholds]:
        """Yield the thresholds that minimise mean cost + price · Σ risk/ε, for falling prices."""
        costs, heads = self.answers.costs, self.exits
        if self.score.uses_history:
            heads = tuple(range(max(self.exits) + 1))
        cost_EN = costs.weight_N * costs.up_to(heads) / len(self.answers)
        thresholds = np.full(self.answers.exit_count, np.inf)
        for price in prices:
            thresholds = self._descend(cost_EN + price * self.penalty_EN, thresholds)
            yield thresholds

    def evaluate(self, thresholds: Thresholds) -> Candidate:
        """Return the policy with these thresholds, its mean cost and its risk."""
        return _evaluate(self.score, thresholds, self.score_EN, self.answers, self.risks)

    def _descend(self, total_EN: Float[np.ndarray, "E N"], thresholds: Thresholds) -> Thresholds:
        """Minimise the total exactly in one threshold at a time, until none changes."""
        for _ in range(_SWEEPS):
            before, thresholds = thresholds, thresholds.copy()
            for index in reversed(self.exits):
                thresholds[index] = _best_threshold(
                    index, self.score_EN, self.order_EN[index], total_EN, thresholds, self.score.lowest
                )
            if np.array_equal(before, thresholds):
                break
        return thresholds


def _evaluate(
    score: ExitScore, thresholds: Thresholds, score_EN: Scores, answers: Answers, risks: Sequence[Risk]
) -> Candidate:
    index_N = _leaves_at(score_EN, thresholds)
    worst = max(risk.expected(index_N) / risk.epsilon for risk in risks)
    policy = ThresholdPolicy(score, thresholds.tolist())
    return Candidate(policy, answers.costs.mean(index_N, policy.exits), worst)


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
    is as far away as if there were one more at the distance of the second lowest. It is a number of single precision,
    which the engine compares with scores, wherever one lies between the two.
    """
    if count == 0:
        return np.inf
    last = rising_N[-count]
    place = int(np.searchsorted(rising_N, last))
    if place > 0:
        below = rising_N[place - 1]
        middle = np.float32((last + below) / 2)
        return float(middle if below < middle <= last else last)
    above = int(np.searchsorted(rising_N, last, side="right"))
    gap = rising_N[above] - last if above < len(rising_N) else 1.0
    lower = np.float32(last - gap / 2)
    return float(lower if lower <= last else last - gap / 2)
