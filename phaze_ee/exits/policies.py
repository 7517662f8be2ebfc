"""When a jet may leave: a score of the answers so far, and a threshold at every exit."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from phaze_ee.errors import UsageError
from phaze_ee.exits.scores import ExitScore, make_score
from phaze_ee.shapes import Bool, Float, Int


class ExitPolicy(ABC):
    """Which jets leave at which exit.

    Attributes:
        exits: the exits that have to be evaluated; None: all. At the others no jet leaves.
        temperatures: what the logits of each exit, and of the full model, are divided by before anything looks at them;
            None: nothing.
    """

    exits: tuple[int, ...] | None = None
    temperatures: tuple[float, ...] | None = None

    @abstractmethod
    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Bool[Tensor, " N"]:
        """Return which jets leave at the last of these exits, by the logits of it and of all before.

        Exits that were not evaluated are there with logits that are not numbers.
        """

    @abstractmethod
    def check(self, exit_count: int) -> None:
        """Raise UsageError unless the policy fits a tagger with so many exits (the full model is not one of them)."""


@final
class ThresholdPolicy(ExitPolicy):
    """A jet leaves at the first exit where its score reaches the threshold of this exit.

    Args:
        score: a score, or the name of one that has no parameters.
        thresholds: one per exit; ``inf`` lets nothing leave (the exit is not even evaluated), ``-inf`` everything.
        temperatures: one per exit and one for the full model (Guo et al. 2017, arXiv:1706.04599).

    Raises:
        UsageError: the score is unknown, a threshold is not a number, or a temperature is not positive.
    """

    def __init__(
        self, score: str | ExitScore, thresholds: Sequence[float], temperatures: Sequence[float] | None = None
    ) -> None:
        if any(math.isnan(threshold) for threshold in thresholds):
            raise UsageError(f"thresholds {list(thresholds)} hold a value that is not a number")
        if temperatures is not None and not all(0 < temperature < math.inf for temperature in temperatures):
            raise UsageError(f"temperatures {list(temperatures)} must all be positive")
        self.score = make_score(score) if isinstance(score, str) else score
        self.thresholds = tuple(float(threshold) for threshold in thresholds)
        self.temperatures = None if temperatures is None else tuple(temperatures)
        offered = tuple(index for index, threshold in enumerate(self.thresholds) if threshold < math.inf)
        self.exits = tuple(range(max(offered, default=-1) + 1)) if self.score.uses_history else offered

    def capped(self, exit_: int) -> "ThresholdPolicy":
        """Return the policy with which no jet goes deeper than an exit: all that reach it leave there.

        Raises:
            UsageError: there is no such exit.
        """
        if not 0 <= exit_ < len(self.thresholds):
            raise UsageError(f"no exit {exit_} to stop at; the policy has exits 0 to {len(self.thresholds) - 1}")
        behind = len(self.thresholds) - exit_ - 1
        return ThresholdPolicy(
            self.score, [*self.thresholds[:exit_], -math.inf, *[math.inf] * behind], self.temperatures
        )

    def check(self, exit_count: int) -> None:
        if len(self.thresholds) != exit_count:
            raise UsageError(
                f"the policy has {len(self.thresholds)} thresholds, the tagger {exit_count} exits; give one for each"
            )
        if self.temperatures is not None and len(self.temperatures) != exit_count + 1:
            raise UsageError(
                f"the policy has {len(self.temperatures)} temperatures; give one for each of {exit_count} exits "
                "and one for the full model"
            )

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Bool[Tensor, " N"]:
        # A jet whose score is not a number stays: it never compares as larger.
        return self.score(logits_ENK) >= self.thresholds[len(logits_ENK) - 1]


def exit_index(policy: ExitPolicy, logits_ENK: Float[Tensor, "E N K"]) -> Int[Tensor, " N"]:
    """Return where each jet leaves, from the logits of all exits, the full model last, divided by the temperatures."""
    last = len(logits_ENK) - 1
    index_N = torch.full(logits_ENK.shape[1:2], last, device=logits_ENK.device)
    for index in reversed(range(last)):
        index_N[policy(logits_ENK[: index + 1])] = index
    return index_N


def temper(policy: ExitPolicy, logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, "E N K"]:
    """Return the logits of all exits divided by the policy's temperatures."""
    if policy.temperatures is None:
        return logits_ENK
    return logits_ENK / logits_ENK.new_tensor(policy.temperatures)[:, None, None]
