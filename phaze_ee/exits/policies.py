"""When a jet may leave: a score of the answers so far, and a threshold at every exit."""

import math
from collections.abc import Sequence
from typing import Protocol, final

from jaxtyping import Bool, Float
from torch import Tensor

from phaze_ee.errors import UsageError


class ExitScore(Protocol):
    """How sure a tagger is at an exit; larger is surer. It sees the answers of this exit, last, and of all before."""

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]: ...


class ExitPolicy(Protocol):
    """Which jets leave at an exit, by the answers of this exit, last, and of all before."""

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Bool[Tensor, " N"]: ...

    def check(self, exit_count: int) -> None:
        """Raise UsageError unless the policy fits a tagger with so many exits (the full model is not one of them)."""


def confidence(logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
    """Return the largest class probability, between 1/K and 1."""
    return logits_ENK[-1].softmax(dim=-1).amax(dim=-1)


def negative_entropy(logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
    """Return 1 − H(p)/log K: 0 where all classes are equally likely, 1 where one is certain (as in BranchyNet)."""
    log_p_NK = logits_ENK[-1].log_softmax(dim=-1)
    entropy_N = -(log_p_NK.exp() * log_p_NK).sum(dim=-1)
    return 1 - entropy_N / math.log(logits_ENK.shape[-1])


def margin(logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
    """Return the largest class probability minus the second largest, between 0 and 1."""
    first_N, second_N = logits_ENK[-1].softmax(dim=-1).topk(2, dim=-1).values.unbind(dim=-1)
    return first_N - second_N


EXIT_SCORES: dict[str, ExitScore] = {"confidence": confidence, "entropy": negative_entropy, "margin": margin}


@final
class ThresholdPolicy:
    """A jet leaves at the first exit where its score reaches the threshold of this exit.

    Args:
        score: a name in :data:`EXIT_SCORES`.
        thresholds: one per exit; ``inf`` lets nothing leave, ``-inf`` everything.

    Raises:
        UsageError: the score is unknown, or a threshold is not a number.
    """

    def __init__(self, score: str, thresholds: Sequence[float]) -> None:
        if score not in EXIT_SCORES:
            raise UsageError(f"unknown exit score {score!r}; choose from {', '.join(EXIT_SCORES)}")
        if any(math.isnan(threshold) for threshold in thresholds):
            raise UsageError(f"thresholds {list(thresholds)} hold a value that is not a number")
        self.score = score
        self.thresholds = tuple(float(threshold) for threshold in thresholds)

    def check(self, exit_count: int) -> None:
        if len(self.thresholds) != exit_count:
            raise UsageError(
                f"the policy has {len(self.thresholds)} thresholds, the tagger {exit_count} exits; give one for each"
            )

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Bool[Tensor, " N"]:
        # A jet whose score is not a number stays: it never compares as larger.
        return EXIT_SCORES[self.score](logits_ENK) >= self.thresholds[len(logits_ENK) - 1]
