"""Scores for out-of-distribution (OOD) jets: how unlike the training jets a jet looks to an exit."""

from abc import ABC, abstractmethod
from typing import ClassVar, final

import numpy as np
import numpy.typing as npt

from phaze_ee.shapes import Float

Logits = Float[np.ndarray, "E N K"]
Scores = Float[np.ndarray, " N"]


class OODScore(ABC):
    """A score from the answers of all exits, taken at one of them. A larger score is less like the training jets."""

    # Whether the score needs the answer of the full model, also at an earlier exit.
    needs_full_model: ClassVar[bool] = False

    def exists(self, exit_: int, exits: int) -> bool:
        """Return whether the score is defined at an exit of a tagger with ``exits`` exits, the full model included."""
        return True

    @abstractmethod
    def __call__(self, logits_ENK: Logits, exit_: int) -> Scores:
        """Return the score of each jet at an exit where it exists; the full model's logits are the last."""


@final
class Energy(OODScore):
    """The free energy −log Σ exp(f_k) of an exit's logits (arXiv:2010.03759, equation 4 with T = 1)."""

    def __call__(self, logits_ENK: Logits, exit_: int) -> Scores:
        log_sum_N: npt.NDArray[np.float64] = np.logaddexp.reduce(logits_ENK[exit_], axis=-1)
        return -log_sum_N


@final
class MaxProbability(OODScore):
    """Minus the largest class probability, the baseline of arXiv:1610.02136."""

    def __call__(self, logits_ENK: Logits, exit_: int) -> Scores:
        largest_N: npt.NDArray[np.float64] = _softmax(logits_ENK[exit_]).max(axis=-1)
        return -largest_N


@final
class Disagreement(OODScore):
    """Σ_{j≤k} ‖p_j − p_K‖₁: the distance of the exits up to k from the full model K. At k = K, from all exits.

    It can be computed only after the full model has run.
    """

    needs_full_model: ClassVar[bool] = True

    def exists(self, exit_: int, exits: int) -> bool:
        return exits > 1

    def __call__(self, logits_ENK: Logits, exit_: int) -> Scores:
        return _distance(logits_ENK[: exit_ + 1], logits_ENK[-1])


@final
class DisagreementSoFar(OODScore):
    """Σ_{j<k} ‖p_j − p_k‖₁: the distance of the exits before k from exit k, known when a jet leaves at k.

    At the full model it equals :class:`Disagreement`; at the first exit it does not exist.
    """

    def exists(self, exit_: int, exits: int) -> bool:
        return exit_ > 0

    def __call__(self, logits_ENK: Logits, exit_: int) -> Scores:
        return _distance(logits_ENK[:exit_], logits_ENK[exit_])


OOD_SCORES: dict[str, OODScore] = {
    "energy": Energy(),
    "max_probability": MaxProbability(),
    "disagreement": Disagreement(),
    "disagreement_so_far": DisagreementSoFar(),
}


def _distance(logits_ENK: Logits, reference_NK: Float[np.ndarray, "N K"]) -> Scores:
    """Return the L1 distance of the probabilities from those of a reference, summed over exits (0 to 2 for each)."""
    difference_ENK = _softmax(logits_ENK) - _softmax(reference_NK)
    distance_N: npt.NDArray[np.float64] = np.abs(difference_ENK).sum(axis=(0, 2))
    return distance_N


def _softmax(logits_NK: Float[np.ndarray, "*N K"]) -> Float[np.ndarray, "*N K"]:
    probability_NK: npt.NDArray[np.float64] = np.exp(logits_NK - np.logaddexp.reduce(logits_NK, axis=-1, keepdims=True))
    return probability_NK
