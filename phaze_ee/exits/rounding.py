"""Scores that rounding can exchange: no threshold may part them.

A tagger has several forms (packed, padded, compiled, on CUDA, as a file), which answer the same to within the rounding
of single precision. Where few jets score like the threshold, a jet more or less does not matter. Where many do,
because a softmax is 1 to within rounding or an exit says the same of many jets, a threshold among them would let a
part of them leave in one form and all of them in another.
"""

import numpy as np
import numpy.typing as npt

from phaze_ee.shapes import Float

_ROUNDING = 1e-6  # of a score, relative to it where it is above 1: some units in the last place of single precision
_FEW, _FEW_SHARE = 2, 0.01  # jets whose scores a threshold may be near to


def joined(score_N: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Return the scores, in float64, with equal ones for jets that no threshold may part.

    A threshold may lie midway between two neighbouring scores if at most 1 % of all jets (and always two) have a score
    within rounding of it. Jets between two such places get the lowest score among them, so that a threshold below it
    is below all of theirs.
    """
    order_N = np.argsort(score_N, kind="stable")
    rising_N = score_N[order_N].astype(np.float64)
    starts = np.concatenate([[0], np.flatnonzero(_is_clear(rising_N)) + 1])
    sizes = np.diff(np.append(starts, len(rising_N)))
    joined_N = np.empty_like(rising_N)
    joined_N[order_N] = np.repeat(rising_N[starts], sizes)
    return joined_N


def largest_share(score_N: Float[np.ndarray, " N"]) -> float:
    """Return the largest share of the jets that no threshold may part."""
    return float(np.unique(joined(score_N), return_counts=True)[1].max() / len(score_N)) if len(score_N) else 0.0


def _is_clear(rising_N: Float[np.ndarray, " N"]) -> npt.NDArray[np.bool_]:
    """Return whether a threshold may lie between each score and the next."""
    below, above = rising_N[:-1], rising_N[1:]
    middle = (below + above) / 2
    near = _ROUNDING * np.maximum(1, np.abs(middle))
    crowd = np.searchsorted(rising_N, middle + near, side="right") - np.searchsorted(rising_N, middle - near)
    clear: npt.NDArray[np.bool_] = (below < above) & (crowd <= max(_FEW, _FEW_SHARE * len(rising_N)))
    return clear
