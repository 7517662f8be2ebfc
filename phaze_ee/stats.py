"""Ranks, ROC curves, the chi-square test and Pareto fronts.

scikit-learn and scipy have them too, but take longer to import than the evaluation of a thousand jets.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar, final

import numpy as np
import numpy.typing as npt

from phaze_ee.shapes import Bool, Float, Int

ItemT = TypeVar("ItemT")
FloatArray = npt.NDArray[np.float64]


@final
class ChiSquare(NamedTuple):
    """The chi-square test of independence of a table; ``p_value`` is 1 without degrees of freedom."""

    statistic: float
    degrees_of_freedom: int
    p_value: float


def chi_square(count_RC: Int[np.ndarray, "R C"], *, continuity: bool = False) -> ChiSquare:
    """Return Pearson's chi-square test of independence of the rows and columns of a table, none of which is empty.

    Args:
        count_RC: counts.
        continuity: apply Yates's correction to a table of 2 × 2: each count moves by at most 1/2 to its expectation.
    """
    rows, columns = count_RC.shape
    degrees = (rows - 1) * (columns - 1)
    if degrees == 0:
        return ChiSquare(0.0, 0, 1.0)
    expected_RC = count_RC.sum(axis=1, keepdims=True) * count_RC.sum(axis=0, keepdims=True) / count_RC.sum()
    distance_RC = np.abs(count_RC - expected_RC)
    if continuity and degrees == 1:
        distance_RC = np.maximum(distance_RC - 0.5, 0)
    statistic = float((distance_RC**2 / expected_RC).sum())
    import torch

    halves = torch.tensor([degrees / 2, statistic / 2], dtype=torch.float64)
    return ChiSquare(statistic, degrees, float(torch.special.gammaincc(*halves)))


def cramers_v(count_RC: Int[np.ndarray, "R C"]) -> float:
    """Return Cramér's V of a table, from 0 (independent) to 1; 0 for a table of one row or column.

    It is corrected for the χ² that independent jets give by chance (Bergsma, J. Korean Stat. Soc. 42 (2013) 323):
    without that, 200 of them in ten bins would show 0.2.
    """
    found, others = chi_square(count_RC), int(count_RC.sum()) - 1
    if not found.degrees_of_freedom or others < 1:
        return 0.0
    by_chance = found.degrees_of_freedom / others
    smaller = min(size - 1 - (size - 1) ** 2 / others for size in count_RC.shape)
    excess = found.statistic / (others + 1) - by_chance
    return float(np.sqrt(min(1.0, excess / smaller))) if excess > 0 and smaller > 0 else 0.0


def share_below(reference_M: Float[np.ndarray, " M"], value_N: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Return the share of the reference that is smaller than each value; equal ones count half."""
    sorted_M = np.sort(reference_M)
    twice_N = np.searchsorted(sorted_M, value_N, "left") + np.searchsorted(sorted_M, value_N, "right")
    share_N: FloatArray = twice_N / (2 * len(sorted_M))
    return share_N


def roc_area(positive_N: Bool[np.ndarray, " N"], score_N: Float[np.ndarray, " N"]) -> float:
    """Return the area under the ROC curve: the probability that a positive has the larger score, ties counted half."""
    # Sorted values are found several times as fast.
    return float(share_below(score_N[~positive_N], np.sort(score_N[positive_N])).mean())


class RocPoints(NamedTuple):
    """The corners of a ROC curve, from (0, 0) to (1, 1)."""

    false_positive_rate: FloatArray
    true_positive_rate: FloatArray


def roc_curve(positive_N: Bool[np.ndarray, " N"], score_N: Float[np.ndarray, " N"]) -> RocPoints:
    """Return the ROC curve of scores, by falling cut; equal scores are not split, and corners alone are kept."""
    order_N = np.argsort(-score_N, kind="stable")
    sorted_N = score_N[order_N]
    last_of_equal = np.append(np.flatnonzero(np.diff(sorted_N)), len(sorted_N) - 1)
    positives = np.append(0, np.cumsum(positive_N[order_N])[last_of_equal])
    negatives = np.append(0, last_of_equal + 1) - positives
    bends = (np.diff(positives[1:], 2) != 0) | (np.diff(negatives[1:], 2) != 0)
    kept = np.concatenate([[True], [True], bends, [True]]) if len(positives) > 3 else np.ones(len(positives), bool)
    return RocPoints(negatives[kept] / negatives[-1], positives[kept] / positives[-1])


def pareto_front(items: Iterable[ItemT], cost_and_risk: Callable[[ItemT], tuple[float, float]]) -> list[ItemT]:
    """Return the items that no other beats in both cost and risk, by rising cost and falling risk."""
    front: list[ItemT] = []
    for item in sorted(items, key=cost_and_risk):
        if not front or cost_and_risk(item)[1] < cost_and_risk(front[-1])[1]:
            front.append(item)
    return front
