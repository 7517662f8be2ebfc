"""Which stages pay off as exits: every set of stages, evaluated on stored answers of exits at all of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from math import comb, sqrt
from typing import final

import numpy as np

from phaze_ee.exits.answers import Answers, ExitIndex, at_exit
from phaze_ee.exits.calibrate import relative_answers, split
from phaze_ee.exits.candidates import cost_curve
from phaze_ee.exits.scores import ExitScore, make_score
from phaze_ee.exits.shortfall import CHEAPER
from phaze_ee.exits.targets import wrong_answers
from phaze_ee.names import ExitStage
from phaze_ee.paired import PairedCounts
from phaze_ee.results.base import Provenance
from phaze_ee.results.placement import CandidateExit, PlacementPoint, PlacementResults
from phaze_ee.stats import pareto_front

_SCORE = "confidence"
_POINTS = 30  # on the cost curve of each set
_SHOWN_POINTS = 12  # of each set in the results
_MOST_SUBSETS = 600  # ten candidates have more, which takes minutes
# Mean costs that differ by less than this share of the full model's count as equal.
_COST_STEP = 0.005


@final
@dataclass(frozen=True)
class Placement:
    """Exits at some of the candidates, with thresholds, evaluated on jets that did not shape them.

    Attributes:
        exits: indices of the candidates.
        thresholds: one per exit.
        cost: the mean, as a share of the full model's without exits.
        accuracy: of the mixture of answers.
        fractions: the fraction of jets that leave at each exit, the full model last.
        counts: of the jets that this placement or the full model alone has right.
    """

    exits: tuple[int, ...]
    thresholds: tuple[float, ...]
    cost: float
    accuracy: float
    fractions: tuple[float, ...]
    counts: PairedCounts


def place(
    answers: Answers,
    stages: Sequence[ExitStage],
    *,
    epsilon: float,
    class_prior: Mapping[str, float] | None,
    seed: int,
    exit_head: str,
    provenance: Provenance,
) -> PlacementResults:
    """Evaluate all sets of exits and recommend one.

    Args:
        answers: of independent exits at all stages, for labelled jets; a part of them shapes the thresholds.
        stages: the stage of each exit.
        epsilon: how much less accurate than the full model the recommended exits may be.
        class_prior: shares of the classes in mean costs; None: as the jets have them.
        seed: decides which jets shape thresholds.
        exit_head: the kind of head of all exits, for the results.
        provenance: of the backbone and the jets, for the results.

    Raises:
        DataError: the class prior needs true classes that are unknown, or a class that has no jets.
        RunError: a logit is not finite.
        UsageError: the class prior names an unknown class.
    """
    shaping, judging = split(relative_answers(answers, class_prior), seed)
    found = placements(make_score(_SCORE), shaping, judging)
    candidates = _candidates(stages, judging)
    used = [placement for placement in found if all(placement.fractions[:-1])]  # an exit without jets is for nothing

    def points(some: Sequence[Placement]) -> list[PlacementPoint]:
        return [_point(placement, stages, judging) for placement in some]

    sets = (list(group) for exits, group in groupby(found, key=lambda placement: placement.exits) if exits)
    return PlacementResults(
        project=provenance.project,
        model=provenance.model,
        model_hash=provenance.model_hash,
        data_hash=provenance.data_hash,
        history_hash=provenance.history_hash,
        score=_SCORE,
        exit_head=exit_head,
        epsilon=epsilon,
        shaping_jets=len(shaping),
        judging_jets=len(judging),
        candidates=candidates,
        full_model=_point(found[0], stages, judging),
        curves=[points(_thinned(pareto_placements(group))) for group in sets],
        pareto=points(pareto_placements(used)),
        recommended=_point(recommended(used, epsilon), stages, judging),
        notes=[
            *provenance.notes,
            f"the best of {len(found):,} placements and thresholds looks a little better on these {len(judging):,} "
            "jets than on others; check it with mode evaluate",
            *costly_heads(candidates, exit_head),
            *costly_placements(pareto_placements(used)),
        ],
    )


def placements(score: ExitScore, shaping: Answers, judging: Answers) -> list[Placement]:
    """Return every set of candidates with thresholds for several costs; the full model without exits comes first.

    The thresholds are those of :func:`phaze_ee.exits.candidates.cost_curve`. If there are more than 600 sets, large
    ones are left out.

    Args:
        score: the exit score.
        shaping: answers that shape the thresholds.
        judging: answers for other jets, which evaluate them.
    """
    full = judging.costs.mean_full
    found = [_judged((), (), judging.with_exits(()), judging.all_at(0), full)]
    for exits in _subsets(shaping.exit_count):
        fitted, judged = shaping.with_exits(exits), judging.with_exits(exits)
        for candidate in cost_curve(score, fitted, wrong_answers(fitted), _POINTS):
            index_N = judged.exit_index(candidate.policy)
            found.append(_judged(exits, candidate.policy.thresholds, judged, index_N, full))
    return found


def pareto_placements(found: Sequence[Placement]) -> list[Placement]:
    """Return the placements that no other beats: by rising cost, each is more accurate than all cheaper ones."""
    return pareto_front(found, lambda placement: (placement.cost, -placement.accuracy))


def recommended(found: Sequence[Placement], epsilon: float) -> Placement:
    """Return the cheapest placement that loses at most ``epsilon`` of the full model's accuracy.

    Costs are compared in steps of half a percent of the full model's. Of equal costs, the one with the fewest exits is
    chosen. None that costs more than the full model, which is one of the placements, is ever chosen.
    """
    full = next(placement for placement in found if not placement.exits)
    good = [
        placement
        for placement in found
        if placement.accuracy >= full.accuracy - epsilon and (placement.cost < full.cost or placement is full)
    ]
    return min(good, key=lambda placement: (round(placement.cost / _COST_STEP), len(placement.exits), placement.cost))


def costly_heads(candidates: Sequence[CandidateExit], exit_head: str) -> list[str]:
    """Return a note if an exit costs at least as much as the full model."""
    costly = [str(candidate.stage) for candidate in candidates if candidate.macs_share >= 1]
    if not costly:
        return []
    return [
        f"exits after stage {', '.join(costly)} cost more than the full model itself: their heads ({exit_head}) cost "
        f"more than what they skip; {CHEAPER}"
    ]


def costly_placements(front: Sequence[Placement]) -> list[str]:
    """Return a note if placements that no other beats cost more than the full model."""
    count = sum(placement.cost > 1 for placement in front)
    if not count:
        return []
    return [
        f"{count} of the placements that no other beats cost more than the full model, above 100 %: on these jets they "
        "are more accurate, not cheaper; none of them is recommended"
    ]


def _judged(
    exits: tuple[int, ...], thresholds: Sequence[float], answers: Answers, index_N: ExitIndex, full_cost: float
) -> Placement:
    right_EN = answers.correct_EN
    right_N = at_exit(right_EN, index_N)
    return Placement(
        exits,
        tuple(thresholds),
        cost=answers.costs.mean(index_N) / full_cost,
        accuracy=float(right_N.mean()),
        counts=PairedCounts.of(right_N, right_EN[-1]),
        fractions=tuple((np.bincount(index_N, minlength=len(exits) + 1) / len(answers)).tolist()),
    )


def _subsets(candidates: int) -> Iterator[tuple[int, ...]]:
    total = 0
    for size in range(1, candidates + 1):
        total += comb(candidates, size)
        if total > _MOST_SUBSETS and size > 1:
            return
        yield from combinations(range(candidates), size)


def _point(placement: Placement, stages: Sequence[ExitStage], judging: Answers) -> PlacementPoint:
    accuracy = placement.accuracy
    return PlacementPoint(
        exit_stages=[stages[exit_] for exit_ in placement.exits],
        thresholds=list(placement.thresholds),
        mean_macs=placement.cost * judging.costs.mean_full * judging.costs.unit,
        macs_share=placement.cost,
        accuracy=accuracy,
        accuracy_error=sqrt(accuracy * (1 - accuracy) / len(judging)),
        exit_fractions=list(placement.fractions),
        difference=placement.counts.difference,
        difference_error=placement.counts.error,
        p_value=placement.counts.p_value,
    )


def _candidates(stages: Sequence[ExitStage], judging: Answers) -> list[CandidateExit]:
    """Return the accuracy and the unweighted mean cost of each exit alone."""
    accuracy_E = judging.correct_EN.mean(axis=1).tolist()
    full = judging.costs.full_N.mean()
    cost_E = [
        float(judging.costs.spent(judging.all_at(exit_), [exit_]).mean() / full) for exit_ in range(judging.exit_count)
    ]
    rows = zip(stages, accuracy_E[:-1], cost_E, strict=True)
    return [CandidateExit(stage=stage, accuracy=accuracy, macs_share=cost) for stage, accuracy, cost in rows]


def _thinned(front: Sequence[Placement]) -> list[Placement]:
    """Return at most about a dozen of the placements, evenly, with the last."""
    step = max(1, -(-len(front) // _SHOWN_POINTS))
    return [*front[:-1:step], front[-1]]
