"""How unlike the training jets a jet looks to an exit: the registry of scores for out-of-distribution (OOD) jets."""

from abc import ABC, abstractmethod
from typing import ClassVar, final

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy.special import logsumexp, softmax

FloatArray = npt.NDArray[np.float64]
Logits = Float[FloatArray, "E N K"]


class OODScore(ABC):
    """A score of the answers of all exits, taken at one of them; larger is less like the training jets."""

    # Whether it can be known only once the full model has answered, also at an earlier exit.
    needs_full_model: ClassVar[bool] = False

    def exists(self, exit_: int, exits: int) -> bool:
        """Return whether the score says anything at an exit of a tagger with so many, the full model included."""
        return True

    @abstractmethod
    def __call__(self, logits_ENK: Logits, exit_: int) -> Float[FloatArray, " N"]:
        """Return the score of each jet at an exit where it exists; the full model's logits are the last."""


@final
class Energy(OODScore):
    """The free energy −log Σ exp(f_k) of an exit's logits (arXiv:2010.03759, equation 4 with T = 1)."""

    def __call__(self, logits_ENK: Logits, exit_: int) -> Float[FloatArray, " N"]:
        log_sum_N: FloatArray = logsumexp(logits_ENK[exit_], axis=-1)
        return -log_sum_N


@final
class MaxProbability(OODScore):
    """Minus the largest class probability: the baseline of arXiv:1610.02136."""

    def __call__(self, logits_ENK: Logits, exit_: int) -> Float[FloatArray, " N"]:
        largest_N: FloatArray = softmax(logits_ENK[exit_], axis=-1).max(axis=-1)
        return -largest_N


@final
class Disagreement(OODScore):
    """Σ_{j≤k} ‖p_j − p_K‖₁: how far the exits up to k are from the full model K. At k = K, from all exits.

    It judges what the early exits know, but not before the full model has run.
    """

    needs_full_model: ClassVar[bool] = True

    def exists(self, exit_: int, exits: int) -> bool:
        return exits > 1

    def __call__(self, logits_ENK: Logits, exit_: int) -> Float[FloatArray, " N"]:
        return _distance(logits_ENK[: exit_ + 1], logits_ENK[-1])


@final
class DisagreementSoFar(OODScore):
    """Σ_{j<k} ‖p_j − p_k‖₁: how far the exits before k are from exit k, which a jet that leaves at k can know.

    At the full model it is the same as :class:`Disagreement`; at the first exit there is none.
    """

    def exists(self, exit_: int, exits: int) -> bool:
        return exit_ > 0

    def __call__(self, logits_ENK: Logits, exit_: int) -> Float[FloatArray, " N"]:
        return _distance(logits_ENK[:exit_], logits_ENK[exit_])


OOD_SCORES: dict[str, OODScore] = {
    "energy": Energy(),
    "max_probability": MaxProbability(),
    "disagreement": Disagreement(),
    "disagreement_so_far": DisagreementSoFar(),
}


def _distance(logits_ENK: Logits, reference_NK: Float[FloatArray, "N K"]) -> Float[FloatArray, " N"]:
    """Return the sum over exits of the L1 distance of probabilities from those of one exit, between 0 and 2 each."""
    difference_ENK = softmax(logits_ENK, axis=-1) - softmax(reference_NK, axis=-1)
    distance_N: FloatArray = np.abs(difference_ENK).sum(axis=(0, 2))
    return distance_N
