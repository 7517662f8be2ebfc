"""Exact ranks of counts in bins among jets that are exchangeable, and bets on them.

Jets arrive in blocks, after a reference sample. If all are drawn alike, then, given how many of the jets so far lie in
a range of bins and in its lower half, the number of the last block in the lower half is hypergeometric. Its randomised
rank is uniform and independent of all ranks before, for a reference of any size: these are conformal p-values of blocks
(Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2nd edition, chapter 8). The ranges are halved
until each is one bin. Given the jets in a range, the ranks of its halves are independent of those above.

A rank becomes a normal number z. A bet on z whose size λ is drawn from a normal distribution of width τ has a capital
in closed form. The capital is a test martingale: it exceeds 1/δ at any time with a probability of at most δ (Ville;
Shafer and Vovk, Game-Theoretic Foundations for Probability and Finance; Ramdas, Grünwald, Vovk and Shafer,
arXiv:2210.01948). For two samples see also Shekhar and Ramdas, arXiv:2112.09162.
"""

import math
from functools import cache
from statistics import NormalDist
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt

from phaze_ee.shapes import Float, Int

# Differences of a range, in standard deviations of one jet, on which the capital is bet.
_WIDTHS = np.array([0.03, 0.1, 0.3])
# How far from its mean a count is looked at. Farther off lies a probability of less than 1e-30.
_REACH, _MARGIN = 12, 40
_LEAST = 1e-300
_FAR = 37.0  # standard deviations at this probability
# From this variance on, the rank is that of the normal distribution, which differs by less than 2e-5 (z² − 1): the sum
# over the counts would be long.
_LARGE = 1e8


@final
class Halves(NamedTuple):
    """The H ranges of bins that are halved: bins ``first`` to ``stop``, the lower half up to ``middle``.

    ``level_H`` is 0 for all bins, 1 for their halves, and so on.
    """

    first_H: npt.NDArray[np.int64]
    middle_H: npt.NDArray[np.int64]
    stop_H: npt.NDArray[np.int64]
    level_H: npt.NDArray[np.int64]

    def jets(self, count_XB: Int[np.ndarray, "... B"]) -> Int[np.ndarray, "... H"]:
        """Return the jets in each range."""
        return _between(count_XB, self.first_H, self.stop_H)

    def lower(self, count_XB: Int[np.ndarray, "... B"]) -> Int[np.ndarray, "... H"]:
        """Return the jets in the lower half of each range."""
        return _between(count_XB, self.first_H, self.middle_H)


@cache
def halves(bins: int) -> Halves:
    """Return the ranges for a number of bins, from the widest to the narrowest."""
    rows, level, current = [], 0, [(0, bins)]
    while current:
        split = [(first, (first + stop) // 2, stop) for first, stop in current if stop - first > 1]
        rows += [(*row, level) for row in split]
        current = [half for first, middle, stop in split for half in ((first, middle), (middle, stop))]
        level += 1
    return Halves(*np.array(rows, dtype=np.int64).reshape(-1, 4).T)


def increments(
    pool_B: Int[np.ndarray, " B"], block_B: Int[np.ndarray, " B"], random: np.random.Generator
) -> Float[np.ndarray, " H"]:
    """Return z · √(m / (M · (M + m))) for each range, where M jets of the pool and m of the block are in it.

    Args:
        pool_B: the jets before the block, in bins.
        block_B: the jets of the block.
        random: for ranks of equal counts; it must not depend on the jets.
    """
    ranges = halves(len(pool_B))
    uniform_H = random.random(len(ranges.level_H))
    both_B = pool_B + block_B
    rows = zip(ranges.lower(block_B), ranges.jets(block_B), ranges.lower(both_B), ranges.jets(both_B), strict=True)
    return np.array(
        [_increment(uniform, *map(int, row)) for row, uniform in zip(rows, uniform_H.tolist(), strict=True)]
    )


def log_capital(
    start_SB: Int[np.ndarray, "S B"], now_B: Int[np.ndarray, " B"], gain_SH: Float[np.ndarray, "S H"]
) -> Float[np.ndarray, " S"]:
    """Return the logarithm of the capital of bets that began at S times.

    The capital is the mean over the widths τ, and over how finely the bins are halved.

    Args:
        start_SB: the jets at these times.
        now_B: the jets now.
        gain_SH: the sums of the increments since.
    """
    ranges = halves(len(now_B))
    before_SH, now_H = ranges.jets(start_SB).astype(float), ranges.jets(now_B)  # their product may exceed 2^63
    # The increments have the variance 1/before − 1/now. Times ``before``, those of a change at the start weigh alike.
    variance_SH = before_SH * (now_H - before_SH) / np.maximum(1, now_H)
    squared_SH = (before_SH * gain_SH) ** 2
    widths_W11 = _WIDTHS[:, None, None] ** 2
    spread_WSH = 1 + widths_W11 * variance_SH
    log_WSH = widths_W11 * squared_SH / (2 * spread_WSH) - np.log(spread_WSH) / 2
    levels = range(int(ranges.level_H.max(initial=-1)) + 1)
    log_XS = [log_WSH[:, :, ranges.level_H <= level].sum(axis=2) for level in levels]
    if not log_XS:
        return np.zeros(len(start_SB))
    log_S: npt.NDArray[np.float64] = np.logaddexp.reduce(np.concatenate(log_XS), axis=0)
    return log_S - math.log(len(log_XS) * len(_WIDTHS))


def _between(
    count_XB: npt.NDArray[np.int64], first_H: npt.NDArray[np.int64], stop_H: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    total_XC = np.concatenate([np.zeros_like(count_XB[..., :1]), count_XB.cumsum(axis=-1)], axis=-1)
    between: npt.NDArray[np.int64] = total_XC[..., stop_H] - total_XC[..., first_H]
    return between


def _increment(uniform: float, hits: int, drawn: int, all_hits: int, everything: int) -> float:
    if not drawn:
        return 0.0
    scale = math.sqrt(drawn / (max(1, everything - drawn) * everything))
    return scale * _normal_rank(hits, drawn, all_hits, everything, uniform)


def _normal_rank(hits: int, drawn: int, all_hits: int, everything: int, uniform: float) -> float:
    """Return the randomised rank of a hypergeometric number as a quantile of the normal distribution.

    Args:
        hits: of the jets drawn.
        drawn: how many are drawn.
        all_hits: of all jets.
        everything: all jets.
        uniform: decides within the probability of ``hits``.
    """
    mean = drawn * all_hits / everything
    variance = mean * (1 - all_hits / everything) * (everything - drawn) / max(1, everything - 1)
    if variance > _LARGE:
        return max(-_FAR, min(_FAR, (hits + uniform - 0.5 - mean) / math.sqrt(variance)))
    reach = _REACH * math.sqrt(variance) + _MARGIN
    first = max(0, drawn + all_hits - everything, math.floor(mean - reach))
    last = min(drawn, all_hits, math.ceil(mean + reach))
    hits_C = np.arange(first, last, dtype=np.float64)
    ratio_C = np.log(
        (all_hits - hits_C) * (drawn - hits_C) / ((hits_C + 1) * (everything - all_hits - drawn + hits_C + 1))
    )
    log_C = np.concatenate([[0.0], ratio_C.cumsum()])
    weight_C = np.exp(log_C - log_C.max())
    index = min(max(hits, first), last) - first
    below = weight_C[:index].sum() + uniform * weight_C[index]
    above = weight_C[index + 1 :].sum() + (1 - uniform) * weight_C[index]
    tail = max(_LEAST, float(min(below, above) / (below + above)))
    return math.copysign(NormalDist().inv_cdf(tail), below - above)
