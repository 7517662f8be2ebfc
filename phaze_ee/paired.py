"""Differences between two answers for the same jets.

Two taggers that judge the same jets are right and wrong on mostly the same ones. The error of the difference of their
accuracies is therefore smaller than that of two independent accuracies: only jets on which one alone is right count.
"""

from collections.abc import Sequence
from math import exp, log, sqrt
from typing import NamedTuple, Self, final

import numpy as np

from phaze_ee.shapes import Bool

SIGNIFICANCE = 0.05


@final
class PairedCounts(NamedTuple):
    """How many of ``jets`` jets one answer alone has right, and how many the other alone.

    Attributes:
        gained: jets that are right here and wrong in the reference.
        lost: jets that are wrong here and right in the reference.
        jets: all jets, at least one.
    """

    gained: int
    lost: int
    jets: int

    @classmethod
    def of(cls, right_N: Bool[np.ndarray, " N"], reference_N: Bool[np.ndarray, " N"]) -> Self:
        """Count jets by whether each answer is right."""
        return cls(int((right_N & ~reference_N).sum()), int((reference_N & ~right_N).sum()), len(right_N))

    @property
    def difference(self) -> float:
        """The accuracy minus that of the reference."""
        return (self.gained - self.lost) / self.jets

    @property
    def error(self) -> float:
        """The standard error of the difference, √(g + l - (g - l)²/N)/N, for g gained and l lost of N jets.

        This is the variance of a difference of two proportions in matched pairs (Agresti, Categorical Data Analysis,
        chapter on matched pairs).
        """
        changed = self.gained + self.lost
        return sqrt(changed - (self.gained - self.lost) ** 2 / self.jets) / self.jets

    @property
    def p_value(self) -> float:
        """The two-sided p-value of equal accuracies, by the exact form of McNemar's test.

        If both accuracies are equal, each jet on which one alone is right is gained or lost with probability 1/2
        (McNemar, Psychometrika 12 (1947) 153). The p-value is twice the binomial tail up to min(g, l), at most 1.
        """
        changed, fewer = self.gained + self.lost, min(self.gained, self.lost)
        if 2 * fewer == changed:
            return 1.0
        step = np.arange(1, fewer + 1)
        log_ratio = np.concatenate([[0.0], np.cumsum(np.log((changed + 1 - step) / step))])
        log_tail = np.logaddexp.reduce(log_ratio) - (changed - 1) * log(2)
        return min(1.0, exp(float(log_tail)))


def significant(p_values: Sequence[float], level: float = SIGNIFICANCE) -> list[bool]:
    """Return which hypotheses Holm's procedure rejects (Holm, Scandinavian Journal of Statistics 6 (1979) 65).

    The k-th smallest of m p-values is compared with level/(m + 1 - k); the first that exceeds it, and all larger ones,
    are not rejected. The probability that any true hypothesis is rejected is then at most ``level``, however the
    p-values depend on each other.
    """
    rejected = [False] * len(p_values)
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[place] > level / (len(p_values) - rank):
            break
        rejected[place] = True
    return rejected
