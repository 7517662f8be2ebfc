"""Tests of a share that is watched while jets arrive. They are valid at all looks together.

A jet counts with weight w, one over the probability with which it was seen, so that w · (loss − m) has the mean zero if
the share of losses is m. Whoever bets a part λ of a capital on such differences makes it grow only by chance: the
capital K(m) = Π (1 + λ·w·(loss − m)) exceeds 1/δ at any time with a probability of at most δ (Ville's inequality). This
is the capital process of Waudby-Smith and Ramdas (arXiv:2010.09686, section 4). Here λ does not depend on the jets, and
the capital is the mean over a grid of λ, so it does not depend on the order of the jets between two looks.

Jets may change at any time. So a capital that grows if too many jets are lost is divided among bets that begin before
the first look and after each later one (:mod:`phaze_ee.exits.starts`). If each jet is lost with a probability of at
most m, whatever the jets before it were, the sum exceeds 1/δ at any look with a probability of at most δ.
"""

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from phaze_ee.exits.starts import kept_starts, share_of
from phaze_ee.results.base import Record
from phaze_ee.shapes import Bool, Float, Int

# The parts of the largest possible bet. Small ones find small differences.
_BETS = np.geomspace(1e-3, 0.99, 40)
_SHARES = np.concatenate([np.geomspace(1e-6, 0.1, 400), np.linspace(0.1, 1, 400, endpoint=False)[1:]])
_MOST_FACTOR = 1e6
_HALVINGS = 8


class SeenLosses(Record):
    """Jets with a known loss: those seen for certain, of weight 1, and those drawn with probability ``rate``.

    ``jets`` includes the jets without a weight. ``early`` are the jets seen that left early, which an audit sent on;
    the others reached the full model by themselves. None in files of older versions, which did not count those of
    weight 1.
    """

    rate: float
    jets: int
    certain: int
    certain_lost: int
    drawn: int
    drawn_lost: int
    early: int | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        lost = 0 <= self.certain_lost <= self.certain and 0 <= self.drawn_lost <= self.drawn
        if not (0 < self.rate <= 1 and lost and 0 <= self.audited <= self.certain + self.drawn <= self.jets):
            raise ValueError("more jets are lost than were seen, or seen than there are")
        return self

    def __add__(self, other: Self) -> "SeenLosses":
        names = SeenLosses.model_fields.keys() - {"rate", "early"}
        added = {name: getattr(self, name) + getattr(other, name) for name in names}
        return SeenLosses(rate=self.rate, early=self.audited + other.audited, **added)

    @property
    def audited(self) -> int:
        """The jets that an audit sent on, as far as they were counted."""
        return self.drawn if self.early is None else self.early

    @property
    def counts(self) -> Int[np.ndarray, " 4"]:
        """The jets seen for certain, those of them that are lost, the jets drawn, and those of them that are lost."""
        return np.array([self.certain, self.certain_lost, self.drawn, self.drawn_lost])

    @property
    def share(self) -> float:
        """The estimated share of losses among all jets: the weights of the losses over those of the jets seen."""
        seen = self.certain + self.drawn / self.rate
        return (self.certain_lost + self.drawn_lost / self.rate) / seen if seen else 0.0

    def log_capital_above(self, share: float, factor: float = 1.0) -> float:
        """Return the logarithm of a capital that grows if more than this share is lost.

        Args:
            share: the share m.
            factor: as if this many times the jets had been seen.
        """
        return self._log_capital(share, factor, above=True)

    def log_capital_below(self, share: float, factor: float = 1.0) -> float:
        """Return the logarithm of a capital that grows if less than this share is lost."""
        return self._log_capital(share, factor, above=False)

    def _log_capital(self, share: float, factor: float, *, above: bool) -> float:
        return float(log_capital(self.counts, self.rate, share, factor, above=above))

    def interval(self, delta: float) -> tuple[float, float]:
        """Return limits that hold the share at all looks together with a probability of at least 1 − δ."""
        held = np.flatnonzero(self._holds(_SHARES, delta))
        if not len(held):
            return float(_SHARES[-1]), 1.0
        low, high = int(held[0]) - 1, int(held[-1]) + 1
        return (
            self._limit(_SHARES[low], _SHARES[low + 1], delta) if low >= 0 else 0.0,
            self._limit(_SHARES[high], _SHARES[high - 1], delta) if high < len(_SHARES) else 1.0,
        )

    def _holds(self, share_X: Float[np.ndarray, "..."], delta: float) -> Bool[np.ndarray, "..."]:
        """Return whether shares are between the limits."""
        above_X, below_X = (log_capital(self.counts, self.rate, share_X, above=above) for above in (True, False))
        held_X: npt.NDArray[np.bool_] = np.maximum(above_X, below_X) < math.log(2 / delta)
        return held_X

    def _limit(self, outside: float, inside: float, delta: float) -> float:
        """Return a share just outside the limits, between one outside and one inside."""
        for _ in range(_HALVINGS):
            middle = (outside + inside) / 2
            outside, inside = (outside, middle) if self._holds(np.array(middle), delta) else (middle, inside)
        return float(outside)

    def jets_until_known(self, epsilon: float, delta: float) -> int | None:
        """Return how many more drawn jets decide whether the share is below ε, if losses go on at this rate.

        Returns None if more than a million times as many are needed, or if none was drawn.
        """
        below = self.share < epsilon
        capital, limit = (self.log_capital_below, 1 / delta) if below else (self.log_capital_above, 2 / delta)
        factor = 1.0
        while capital(epsilon, factor) < math.log(limit):
            factor *= 1.05
            if factor > _MOST_FACTOR:
                return None
        return math.ceil((factor - 1) * self.drawn) if self.drawn else None


def log_capital(
    seen_X4: Int[np.ndarray, "... 4"],
    rate: float,
    share: float | Float[np.ndarray, "..."],
    factor: float = 1.0,
    *,
    above: bool,
) -> Float[np.ndarray, "..."]:
    """Return the logarithms of capitals that grow if more than a share is lost, or less.

    Args:
        seen_X4: as :attr:`SeenLosses.counts`.
        rate: the probability with which jets are drawn.
        share: the share, or several of any shape that goes with that of the counts.
        factor: as if this many times the jets had been seen.
        above: bet that more is lost; False: less.
    """
    share_X1 = np.asarray(share, dtype=np.float64)[..., None]
    bet_XB = _BETS * rate / share_X1 if above else -_BETS * rate / (1 - share_X1)
    certain_X1, certain_lost_X1, drawn_X1, drawn_lost_X1 = np.moveaxis(seen_X4, -1, 0)[..., None]
    log_XB = np.zeros(len(_BETS))
    for weight, jets_X1, lost_X1 in ((1.0, certain_X1, certain_lost_X1), (1 / rate, drawn_X1, drawn_lost_X1)):
        log_XB = log_XB + lost_X1 * np.log1p(bet_XB * weight * (1 - share_X1))
        log_XB = log_XB + (jets_X1 - lost_X1) * np.log1p(-bet_XB * weight * share_X1)
    log_X: npt.NDArray[np.float64] = np.logaddexp.reduce(factor * log_XB, axis=-1)
    return log_X - math.log(len(_BETS))


def log_evidence(seen_LX4: Int[np.ndarray, "L ... 4"], rate: float, share: float) -> Float[np.ndarray, "L ..."]:
    """Return after each of L looks the logarithm of the evidence that more than a share is lost, at first or later.

    Args:
        seen_LX4: what was seen between one look and the next, as :attr:`SeenLosses.counts`.
        rate: the probability with which jets are drawn.
        share: the share.
    """
    total_LX4 = np.concatenate([np.zeros_like(seen_LX4[:1]), seen_LX4]).cumsum(axis=0)
    looks = range(1, len(total_LX4))
    log_LX = [log_evidence_now(total_LX4[: look + 1], rate, share) for look in looks]
    return np.array(log_LX).reshape(seen_LX4.shape[:-1])


def log_evidence_now(total_LX4: Int[np.ndarray, "L ... 4"], rate: float, share: float) -> Float[np.ndarray, "..."]:
    """Return what :func:`log_evidence` has after the last look, from what was seen up to each look; the first is 0."""
    starts = kept_starts(len(total_LX4) - 1)
    log_SX = log_capital(total_LX4[-1] - total_LX4[starts], rate, share, above=True)
    part_S = np.array([share_of(start) for start in starts]).reshape(-1, *[1] * (log_SX.ndim - 1))
    log_X: npt.NDArray[np.float64] = np.logaddexp.reduce(log_SX + np.log(part_S), axis=0)
    return log_X


def counts_of(losses: Sequence[SeenLosses]) -> Int[np.ndarray, "L 4"]:
    """Return what was seen between one look and the next as numbers."""
    counts_L4: npt.NDArray[np.int64] = np.array([own.counts for own in losses]).reshape(len(losses), 4)
    return counts_L4
