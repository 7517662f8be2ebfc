"""How far a tagger's confidence is from its accuracy."""

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

BIN_COUNT = 15


def expected_calibration_error(
    confidence_N: Float[npt.NDArray[np.float64], " N"], correct_N: Bool[npt.NDArray[np.bool_], " N"]
) -> float:
    """Return the expected calibration error of Guo et al. 2017 (arXiv:1706.04599, equation 5).

    Jets are sorted by their confidence, the probability of the class they are assigned to, into 15 bins of equal width,
    open below and closed above: (0, 1/15], …, (14/15, 1]. The error is the mean over the bins, weighted with their
    numbers of jets, of |fraction of jets assigned correctly - mean confidence|. Empty bins add nothing.
    """
    bin_N = np.clip(np.ceil(confidence_N * BIN_COUNT).astype(np.int64) - 1, 0, BIN_COUNT - 1)
    gap_per_bin = np.bincount(bin_N, weights=correct_N - confidence_N, minlength=BIN_COUNT)
    return float(np.abs(gap_per_bin).sum() / len(confidence_N))
