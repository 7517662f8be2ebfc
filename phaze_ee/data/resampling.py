"""Reweighting by resampling: how often a jet is drawn in an epoch."""

import numpy as np
import numpy.typing as npt

MAX_REPEATS = 10  # weaver's max_resample


def repeats(weight_sum: float, jet_count: int) -> int:
    """Return how often a jet of weight 1 (or more) is drawn, so that an epoch is about as long as without weights."""
    return int(min(MAX_REPEATS, max(1, jet_count // max(1.0, weight_sum))))


def keep_probability(weight_N: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return weaver's probability to keep a jet: its weight, between 0 and 1."""
    return np.clip(weight_N.astype(np.float64), 0, 1)


def resample(weight_N: npt.NDArray[np.floating], count: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return ``count`` indices, each jet in proportion to its weight.

    Systematic resampling: the expected number of copies is that of weaver's independent draws, but it varies by less
    than one, and the total does not vary at all, so that the length of an epoch is known in advance.
    """
    cumulative = np.cumsum(keep_probability(weight_N))
    if count == 0:
        return np.empty(0, dtype=np.intp)
    positions = (np.arange(count) + rng.uniform()) * (cumulative[-1] / count)
    found: npt.NDArray[np.intp] = np.searchsorted(cumulative, positions, side="right")
    return np.minimum(found, len(cumulative) - 1)
