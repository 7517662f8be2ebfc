"""The sequence of policies that a calibration tested, thinned for a policy file.

It is the curve of a policy's own score and target: what each step before the chosen policy costs, and what lies after
it. The policies before the chosen one passed the same tests, so they have its promise; those after it have none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

import numpy as np
from pydantic import model_validator

from phaze_ee.exits.candidates import Candidate
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import AnyExitScore
from phaze_ee.exits.tested import TestedRisk
from phaze_ee.results.base import Record

# Steps at even distances in mean cost. A few more are always kept, such as the chosen one.
_EVEN = 40


@final
@dataclass(frozen=True)
class Step:
    """A policy of the sequence with its tested risks; ``passed``: it passed all tests, as did all before it."""

    policy: ThresholdPolicy
    risks: Sequence[TestedRisk] = ()
    passed: bool = False


class SequenceStep(Record):
    """A policy of the sequence.

    ``score`` is an index into the scores of the sequence. ``passed``: it passed the tests, as did all before it, so it
    has the promise of the calibrated policy. ``upper_limits`` are those of the risks of the promise, in its order, on
    the jets that tested the policy; a budget has none.
    """

    score: int
    thresholds: list[float]
    passed: bool
    upper_limits: list[float]


class PolicySequence(Record):
    """Policies in the order in which a calibration tested them, the full model first, each with one of the scores.

    With a budget, which nothing tests, they are the policies among which the calibration chose.
    """

    scores: list[AnyExitScore]
    steps: list[SequenceStep]

    @classmethod
    def of(cls, steps: Sequence[Step]) -> Self:
        """Return the sequence of these steps."""
        scores = []
        for step in steps:
            if step.policy.score not in scores:
                scores.append(step.policy.score)
        return cls(
            scores=scores,
            steps=[
                SequenceStep(
                    score=scores.index(step.policy.score),
                    thresholds=list(step.policy.thresholds),
                    passed=step.passed,
                    upper_limits=[risk.upper_limit for risk in step.risks],
                )
                for step in steps
            ],
        )

    def policy(self, step: SequenceStep) -> ThresholdPolicy:
        """Return the policy of a step, without temperatures."""
        return ThresholdPolicy(self.scores[step.score], step.thresholds)

    def check(self, exit_count: int) -> None:
        """Check that the policies fit a tagger with this number of exits, without the full model.

        Raises:
            UsageError: they do not.
        """
        for step in self.steps:
            self.policy(step).check(exit_count)

    @model_validator(mode="after")
    def _check(self) -> Self:
        wrong = [step.score for step in self.steps if not 0 <= step.score < len(self.scores)]
        if wrong:
            known = "there is 1 score" if len(self.scores) == 1 else f"there are {len(self.scores)} scores"
            raise ValueError(f"a step has score {wrong[0]}, and {known}")
        return self


def some_steps(
    sequence: Sequence[Candidate],
    observed: Sequence[Sequence[TestedRisk]],
    chosen: int | None,
    needed: Sequence[ThresholdPolicy] = (),
) -> list[Step]:
    """Return steps of a sequence: some at even distances in mean cost, and those around the chosen policy.

    Args:
        sequence: from the safest to the fastest.
        observed: their tested risks; with a budget empty lists.
        chosen: the number of the last policy that passed; None: none did.
        needed: policies of the sequence that are kept in any case.
    """
    if not sequence:
        return []
    cost_S = np.array([candidate.cost for candidate in sequence])
    kept = {int(np.abs(cost_S - cost).argmin()) for cost in np.linspace(cost_S[0], cost_S[-1], _EVEN)}
    last_passed = -1 if chosen is None else chosen
    kept |= {index for index in (last_passed, last_passed + 1) if 0 <= index < len(sequence)}
    kept |= {index for index, candidate in enumerate(sequence) if candidate.policy in needed}
    return [Step(sequence[index].policy, observed[index], passed=index <= last_passed) for index in sorted(kept)]
