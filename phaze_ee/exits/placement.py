"""Where exits pay: every set of stages, judged on stored answers of exits at all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import final

import numpy as np
import numpy.typing as npt

from phaze_ee.exits.answers import CalibrationJets
from phaze_ee.exits.candidates import cost_curve, pareto_front
from phaze_ee.exits.scores import ExitScore
from phaze_ee.exits.targets import wrong_answers

_POINTS = 30  # on the curve of each set
_MOST_SUBSETS = 600  # ten candidates have more, which takes minutes
# Mean costs that differ by less than this share of the full model's are as good as equal.
_COST_STEP = 0.005


@final
@dataclass(frozen=True)
class Placement:
    """Exits at some of the candidates, with thresholds, on the jets that judge them.

    ``cost`` is the mean, as a share of the full model's without exits; ``fractions`` of the jets leave at each exit,
    the full model last.
    """

    exits: tuple[int, ...]
    thresholds: tuple[float, ...]
    cost: float
    accuracy: float
    fractions: tuple[float, ...]


def placements(score: ExitScore, shaping: CalibrationJets, judging: CalibrationJets) -> list[Placement]:
    """Return every set of candidates with thresholds of several costs, which some jets shape and others judge.

    The thresholds are those of :func:`phaze_ee.exits.candidates.cost_curve`. With many candidates, sets are
    limited in size so that there are at most 600. The full model without exits comes first.
    """
    found = [_judged((), (), judging, np.zeros(len(judging), dtype=np.int64))]
    for exits in _subsets(shaping.exit_count):
        fitted, judged = shaping.with_exits(exits), judging.with_exits(exits)
        for candidate in cost_curve(score, fitted, wrong_answers(fitted), _POINTS):
            index_N = judged.exit_index(candidate.policy)
            found.append(_judged(exits, candidate.policy.thresholds, judging, index_N))
    return found


def _judged(
    exits: tuple[int, ...], thresholds: Sequence[float], judging: CalibrationJets, index_N: npt.NDArray[np.int64]
) -> Placement:
    jets = judging.with_exits(exits)
    return Placement(
        exits,
        tuple(thresholds),
        cost=jets.mean_cost(index_N) / float((judging.weight_N * judging.full_cost_N).mean()),
        accuracy=float(jets.at_exit(jets.correct_EN, index_N).mean()),
        fractions=tuple((np.bincount(index_N, minlength=len(exits) + 1) / len(jets)).tolist()),
    )


def pareto_placements(found: Sequence[Placement]) -> list[Placement]:
    """Return the placements that no other beats: by rising cost, each is more accurate than all that are cheaper."""
    return pareto_front(found, lambda placement: (placement.cost, -placement.accuracy))


def recommended(found: Sequence[Placement], epsilon: float) -> Placement:
    """Return the cheapest placement that loses at most ``epsilon`` of the full model's accuracy.

    Costs are compared in steps of half a percent of the full model's; of equal ones, the fewer exits the better.
    """
    full = next(placement for placement in found if not placement.exits)
    good = [placement for placement in found if placement.accuracy >= full.accuracy - epsilon]
    return min(good, key=lambda placement: (round(placement.cost / _COST_STEP), len(placement.exits), placement.cost))


def _subsets(candidates: int) -> Iterator[tuple[int, ...]]:
    total = 0
    for size in range(1, candidates + 1):
        total += comb(candidates, size)
        if total > _MOST_SUBSETS and size > 1:
            return
        yield from combinations(range(candidates), size)
