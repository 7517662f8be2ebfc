"""Where exits pay: every set of stages, judged on stored answers of exits at all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import final

import numpy as np

from phaze_ee.exits.calibration.candidates import budgeted_thresholds, leaves_at, pareto_front
from phaze_ee.exits.calibration.jets import CalibrationJets
from phaze_ee.exits.scores import ExitScore

# The ratios of jets that leave at an exit to those that leave at the exit before it: from nearly all at the first to
# nearly all at the full model.
_RATIOS = np.geomspace(0.02, 50, 41)
_MOST_SUBSETS = 2_000
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
    """Return every set of candidates with budgeted thresholds, which some jets shape and others judge.

    With many candidates, sets are limited in size so that there are at most 2,000. The full model without exits comes
    first.
    """
    full_cost = float((judging.weight_N * judging.full_cost_N).mean())
    scores = shaping.scores(score), judging.scores(score)
    found = []
    for exits in _subsets(shaping.exit_count):
        shaping_EN, judging_EN = (score_EN[list(exits)] for score_EN in scores)
        jets = judging.with_exits(exits)
        correct_EN = jets.correct_EN
        for ratio in _RATIOS if exits else [1.0]:
            thresholds = budgeted_thresholds(shaping_EN, float(ratio))
            index_N = leaves_at(judging_EN, thresholds)
            fractions = np.bincount(index_N, minlength=len(exits) + 1) / len(jets)
            cost, accuracy = jets.mean_cost(index_N) / full_cost, float(jets.at_exit(correct_EN, index_N).mean())
            found.append(Placement(exits, tuple(thresholds.tolist()), cost, accuracy, tuple(fractions.tolist())))
    return found


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
    for size in range(candidates + 1):
        total += comb(candidates, size)
        if total > _MOST_SUBSETS and size > 1:
            return
        yield from combinations(range(candidates), size)
