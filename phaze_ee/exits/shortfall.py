"""Why no policy passed its tests, or saves nothing, and what helps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from phaze_ee.exits.answers import Answers
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.rounding import largest_share
from phaze_ee.exits.scores import ExitScore
from phaze_ee.names import exit_title
from phaze_ee.results.policy import RealisedFigures

CHEAPER = "try a smaller exit_head_width, exit_head = 'linear', the smallest, or earlier stages"
_ERRORS = 2  # by which a cost must be below the full model's
_MOST = 0.5  # a larger share of the jets with equal scores is a reason to say so


@final
@dataclass(frozen=True)
class Shortfall:
    """A risk that the safest policy does not show to be below its limit.

    ``lost`` of the ``count`` jets that count were lost, of ``jets`` calibration jets. With losses at the same rate
    ``needed`` jets that count would do; None if no number would.
    """

    name: str
    epsilon: float
    lost: int
    count: int
    jets: int
    needed: int | None

    @property
    def more_jets(self) -> int | None:
        """How many more calibration jets like these would do."""
        return None if self.needed is None else max(1, math.ceil(self.needed / self.count * self.jets) - self.jets)

    def __str__(self) -> str:
        if self.count == 0:
            return f"{self.name}: none of the jets that test the policy counts, so add calibration jets"
        enough = "no number of jets would do"
        if self.needed is not None:
            enough = f"it takes {self.needed:,} such jets, about {self.more_jets:,} more calibration jets like these"
        return (
            f"{self.name}: {self.lost} of {self.count} jets with the first policy that is tested, which does not show "
            f"a probability below {self.epsilon:.3g}; at this rate {enough}"
        )


def nothing_saves(answers: Answers) -> str:
    """Return why no policy that lets jets leave is worth a test, and what helps."""
    costs, exits = answers.costs, range(answers.exit_count if len(answers) else 0)
    shares = [costs.mean(answers.all_at(exit_), [exit_]) / costs.mean_full for exit_ in exits]
    if shares and min(shares) >= 1:
        return f"the cheapest exit costs {100 * min(shares):.0f} % of the full model; {CHEAPER}"
    return "no exit saves anything at a risk near the allowed one; train the exits longer, or allow a larger risk"


def costly_policy(policy: ThresholdPolicy, figures: RealisedFigures) -> list[str]:
    """Return a note if a policy that lets jets leave is not shown to cost less than the full model."""
    cost, error = figures.cost_share, figures.cost_share_error
    if not policy.exits or cost + _ERRORS * error < 1:
        return []
    return [
        f"the policy is not shown to save anything: it costs {100 * cost:.1f} ± {100 * error:.1f} % of the full model "
        f"on the jets that test it; use the full model, or {CHEAPER}"
    ]


def alike_scores(scores: Sequence[ExitScore], answers: Answers, *, tempered: bool) -> str:
    """Return which exits give most jets scores that no threshold may part, and what helps; nothing if none does."""
    shares = {
        name: max(largest_share(score_EN[index]) for score_EN in map(answers.scores, scores))
        for index, name in enumerate(answers.exit_names[:-1])
    }
    found = [
        f"{100 * share:.0f} % of the jets at {exit_title(name)}" for name, share in shares.items() if share > _MOST
    ]
    if not found:
        return ""
    spread = "" if tempered else "; fit_temperatures = True with labelled jets spreads them"
    return f"; scores are equal to within rounding for {', '.join(found)}, and no threshold may part these{spread}"
