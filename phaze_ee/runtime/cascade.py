"""One score for all jets of a cascade, which rejects background early: rejected jets lie below all others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt

# The most that a rejected jet can have, so that it lies below 0 also where its discriminant rounds to 1.
_BELOW = -float(np.finfo(np.float64).eps)


@final
@dataclass(frozen=True)
class Cascade:
    """A policy of the form ``reject``: jets leave before the last exit only if they are obvious background.

    Attributes:
        signal: index of the signal class.
        background: index of the background class.
        last: index of the exit where jets leave that no exit has rejected: the full model, or the exit of a cap.
    """

    signal: int
    background: int
    last: int

    @classmethod
    def of(cls, score: Mapping[str, Any] | None, thresholds: Sequence[float] | None) -> Self | None:
        """Return the cascade of a policy; None: the policy is of another form.

        Args:
            score: the exit score as plain values; None: there is no policy.
            thresholds: of the exits.
        """
        if score is None or thresholds is None or score.get("name") != "window" or score.get("accept", 0.0) != 0:
            return None
        cap = next((index for index, own in enumerate(thresholds) if own == -math.inf), len(thresholds))
        if any(own < 0 for own in thresholds[:cap]):  # jets above the cut would leave too
            return None
        return cls(int(score["signal"]), int(score["background"]), cap)

    def scores(
        self,
        score_NK: npt.NDArray[np.floating[Any]],
        exit_index_N: npt.NDArray[np.integer[Any]],
        refused_N: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Return one score per jet (N), which orders jets of all exits.

        It is D − (exits that the jet did not see), with D = p_signal / (p_signal + p_background) at the exit where the
        jet left (0 if both are 0). Jets that no exit rejected have D itself, between 0 and 1. Rejected jets are below
        0, and the lower the earlier they left. Double precision resolves D close to 1, where single precision does not.

        Args:
            score_NK: the probabilities at the exit where each jet left.
            exit_index_N: that exit.
            refused_N: jets that left early because a budget ran out. No exit rejected them. None: there are none.
        """
        signal_N, background_N = (score_NK[:, index].astype(np.float64) for index in (self.signal, self.background))
        sum_N = signal_N + background_N
        score_N = np.divide(signal_N, sum_N, out=np.zeros_like(sum_N), where=sum_N > 0)
        rejected_N = exit_index_N < self.last
        if refused_N is not None:
            rejected_N = rejected_N & ~refused_N
        below_N = np.minimum(score_N - (self.last - exit_index_N), _BELOW)
        found_N: npt.NDArray[np.float64] = np.where(rejected_N, below_N, score_N)
        return found_N
