"""Exit policies: when a jet leaves. A score of the answers so far, and a threshold at every exit.

A policy sees the logits of all exits so far, stacked, and keeps no state. So it can ask whether exits agree, and on
stored logits it decides as it does in the engine.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from phaze_ee.errors import UsageError
from phaze_ee.exits.scores import ExitScore, make_score
from phaze_ee.machine import Precision
from phaze_ee.names import short
from phaze_ee.runtime.cascade import Cascade
from phaze_ee.shapes import Bool, Float, Int


class ExitPolicy(ABC):
    """Decides which jets leave at which exit.

    Attributes:
        exits: the exits that must be evaluated; None: all. No jet leaves at the others.
        temperatures: the logits of each exit, and of the full model, are divided by these before they are used; None:
            they are used as they are.
    """

    exits: tuple[int, ...] | None = None
    temperatures: tuple[float, ...] | None = None

    @abstractmethod
    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Bool[Tensor, " N"]:
        """Return which jets leave at the last of these exits.

        Args:
            logits_ENK: of this exit, the last, and of all before it, divided by the temperatures; NaN for exits that
                were not evaluated.
        """

    @abstractmethod
    def check(self, exit_count: int) -> None:
        """Check that the policy fits a tagger with this number of exits, without the full model.

        Raises:
            UsageError: it does not.
        """


@final
class ThresholdPolicy(ExitPolicy):
    """A jet leaves at the first exit where its score reaches the threshold of this exit.

    Args:
        score: a score, or the name of one that has no parameters.
        thresholds: one per exit. With ``inf`` no jet leaves and the exit is not evaluated; with ``-inf`` every jet
            leaves.
        temperatures: one per exit and one for the full model (Guo et al., arXiv:1706.04599).
        promise: what a calibration showed of this policy, in words; None: nothing.
        precision: of the products in which it was calibrated; None: in none, or in any.
        model_hash: the SHA-256 of the file of the model for which it was calibrated; None: for none.

    Raises:
        UsageError: the score is unknown, a threshold is not a number, or a temperature is not positive.
    """

    def __init__(
        self,
        score: str | ExitScore,
        thresholds: Sequence[float],
        temperatures: Sequence[float] | None = None,
        *,
        promise: str | None = None,
        precision: Precision | None = None,
        model_hash: str | None = None,
    ) -> None:
        if any(math.isnan(threshold) for threshold in thresholds):
            raise UsageError(f"thresholds {list(thresholds)} contain NaN")
        if temperatures is not None and not all(0 < temperature < math.inf for temperature in temperatures):
            raise UsageError(f"temperatures {list(temperatures)} must all be positive")
        self.score = make_score(score) if isinstance(score, str) else score
        self.thresholds = tuple(float(threshold) for threshold in thresholds)
        self.temperatures = None if temperatures is None else tuple(temperatures)
        self.promise = promise
        self.precision = precision
        self.model_hash = model_hash
        offered = tuple(index for index, threshold in enumerate(self.thresholds) if threshold < math.inf)
        self.exits = tuple(range(max(offered, default=-1) + 1)) if self.score.uses_history else offered

    def __repr__(self) -> str:
        numbers = {"thresholds": self.thresholds, "temperatures": self.temperatures or ()}
        parts = [f"{name} {', '.join(map(short, values))}" for name, values in numbers.items() if values]
        return f"<{'; '.join([f'{type(self).__name__} {self.score.name}', *parts, self.promise or 'no promise'])}>"

    @property
    def cascade(self) -> Cascade | None:
        """How rejected jets are scored, if the policy only rejects background (form ``reject``); None: it does not."""
        return Cascade.of(self.score.model_dump(), self.thresholds)

    def capped(self, exit_: int) -> "ThresholdPolicy":
        """Return the same policy, except that every jet that reaches an exit leaves there. It promises nothing.

        Raises:
            UsageError: there is no such exit.
        """
        if not 0 <= exit_ < len(self.thresholds):
            raise UsageError(f"no exit {exit_} to stop at; the policy has exits 0 to {len(self.thresholds) - 1}")
        later = len(self.thresholds) - exit_ - 1
        thresholds = [*self.thresholds[:exit_], -math.inf, *[math.inf] * later]
        return ThresholdPolicy(
            self.score, thresholds, self.temperatures, precision=self.precision, model_hash=self.model_hash
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
        self.score.check(exit_count)

    def check_model(self, model_hash: str | None) -> None:
        """Check that the policy may be used with the model of the file with this SHA-256; None: no file is known.

        Raises:
            UsageError: it was calibrated for the model of another file.
        """
        if None not in (self.model_hash, model_hash) and self.model_hash != model_hash:
            raise UsageError(
                "the policy was calibrated for another model, or for this one before it was trained again; its "
                "thresholds do not hold here: load the policy of the same project, or run mode 'calibrate' again"
            )

    def check_precision(self, precision: Precision) -> None:
        """Check that the policy may be used with products in this precision.

        Raises:
            UsageError: it was calibrated in another one.
        """
        if self.precision not in (None, precision):
            raise UsageError(
                f"the policy was calibrated with precision = {self.precision!r}, and thresholds do not carry over to "
                f"{precision!r}: set precision to {self.precision!r}, or run mode 'calibrate' again"
            )

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Bool[Tensor, " N"]:
        # A jet whose score is NaN stays, because the comparison is False.
        return self.score(logits_ENK) >= self.thresholds[len(logits_ENK) - 1]


def exit_index(policy: ExitPolicy, logits_ENK: Float[Tensor, "E N K"]) -> Int[Tensor, " N"]:
    """Return the exit where each jet leaves.

    Args:
        policy: decides.
        logits_ENK: of all exits, the full model last, divided by the policy's temperatures.
    """
    last = len(logits_ENK) - 1
    index_N = torch.full(logits_ENK.shape[1:2], last, device=logits_ENK.device)
    for index in reversed(range(last)):
        index_N[policy(logits_ENK[: index + 1])] = index
    return index_N


def temper(logits_ENK: Float[Tensor, "E N K"], temperatures: Sequence[float] | None) -> Float[Tensor, "E N K"]:
    """Return the logits of each exit divided by its temperature (Guo et al., arXiv:1706.04599); None: as they are."""
    if temperatures is None:
        return logits_ENK
    return logits_ENK / logits_ENK.new_tensor(temperatures)[:, None, None]
