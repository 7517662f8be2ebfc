"""The safer policies to which a calibrated policy can move, from its own sequence.

All policies before the chosen one in the sequence of a calibration passed the same tests, and the full model loses
nothing. So each of them has the promise of the chosen one.
"""

import math
from collections.abc import Sequence
from typing import Literal

from phaze_ee.exits.candidates import Candidate
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import AnyExitScore
from phaze_ee.exits.tested import TestedRisk
from phaze_ee.results.base import Record
from phaze_ee.results.policy import RealisedFigures

# Each has a column in audited predictions, and a share of δ.
_MOST = 8
# A policy that saves less than this share of what the chosen one saves is not worth a step before the full model.
_LEAST = 0.05


class SaferPolicy(Record):
    """A policy that is safer than the chosen one, its tests, and its mean costs."""

    score: AnyExitScore
    thresholds: list[float]
    risks: list[TestedRisk]
    realised: dict[Literal["files", "prior"], RealisedFigures]


class MovedFrom(Record):
    """Where a moved policy comes from.

    Attributes:
        name: the name of the policy that was calibrated.
        decisions: the hash of what decides in that policy.
        step: the place of the moved policy among the safer ones, counted from 1; 0: it is the calibrated one.
        statement: the promise of the calibrated policy in words; None: the file of the moved one has it.
    """

    name: str
    decisions: str
    step: int
    statement: str | None = None


def safer_policies(sequence: Sequence[Candidate], chosen: int) -> list[ThresholdPolicy]:
    """Return some policies before the chosen one, the fastest first, and the full model at the end.

    Their mean costs are spread between that of the chosen policy, near which the steps are small, and that of the full
    model. Each evaluates only exits that the one before evaluates, so that answers which exist already tell what it
    would do.

    Args:
        sequence: from the safest to the fastest.
        chosen: the number of the chosen policy.
    """
    start = sequence[chosen]
    saved = 1 - start.cost
    ladder = [start]
    rest = [candidate for candidate in reversed(sequence[:chosen]) if 1 - candidate.cost >= _LEAST * saved]
    for step in range(1, _MOST):
        wanted = start.cost + saved * (step / _MOST) ** 2
        slower = [
            candidate
            for candidate in rest
            if candidate.cost >= max(wanted, ladder[-1].cost) and _exits(candidate) <= _exits(ladder[-1])
        ]
        if slower:
            ladder.append(slower[0])
            rest = rest[rest.index(slower[0]) + 1 :]
    full = ThresholdPolicy(start.policy.score, [math.inf] * len(start.policy.thresholds))
    return [*(candidate.policy for candidate in ladder[1:]), full]


def _exits(candidate: Candidate) -> frozenset[int]:
    return frozenset(candidate.policy.exits or ())
