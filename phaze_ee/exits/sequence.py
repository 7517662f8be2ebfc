"""Tests of a share that is watched while jets arrive. They are valid at all looks together.

A jet counts with weight w, one over the probability with which it was seen, so that w · (loss − m) has the mean zero if
the share of losses is m. Whoever bets a part λ of a capital on such differences makes it grow only by chance: the
capital K(m) = Π (1 + λ·w·(loss − m)) exceeds 1/δ at any time with a probability of at most δ (Ville's inequality). This
is the capital process of Waudby-Smith and Ramdas (arXiv:2010.09686, section 4). Here λ does not depend on the jets, and
the capital is the mean over a grid of λ, so it does not depend on the order of the jets between two looks.
"""

import math
from typing import Self

import numpy as np
import numpy.typing as npt

from phaze_ee.results.base import Record
from phaze_ee.shapes import Float, Int

# The parts of the largest possible bet. Small ones find small differences.
_BETS = np.geomspace(1e-3, 0.99, 40)
_SHARES = np.concatenate([np.geomspace(1e-6, 0.1, 400), np.linspace(0.1, 1, 400, endpoint=False)[1:]])
_MOST_FACTOR = 1e6


class SeenLosses(Record):
    """Jets with a known loss: those seen for certain, of weight 1, and those drawn with probability ``rate``.

    ``jets`` includes the jets without a weight.
    """

    rate: float
    jets: int
    certain: int
    certain_lost: int
    drawn: int
    drawn_lost: int

    def __add__(self, other: Self) -> "SeenLosses":
        added = {name: getattr(self, name) + getattr(other, name) for name in SeenLosses.model_fields if name != "rate"}
        return SeenLosses(rate=self.rate, **added)

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
        seen_4 = np.array([self.certain, self.certain_lost, self.drawn, self.drawn_lost])
        return float(log_capital(seen_4, self.rate, share, factor, above=above))

    def interval(self, delta: float) -> tuple[float, float]:
        """Return limits that hold the share at all looks together with a probability of at least 1 − δ."""
        limit = math.log(2 / delta)
        held = [
            share
            for share in _SHARES
            if self.log_capital_above(share) < limit and self.log_capital_below(share) < limit
        ]
        below = [share for share in _SHARES if not held or share < held[0]]
        above = [share for share in _SHARES if held and share > held[-1]]
        return (float(below[-1]) if below else 0.0), (float(above[0]) if above else 1.0)

    def jets_until_known(self, epsilon: float, delta: float) -> int | None:
        """Return how many more drawn jets decide whether the share is below ε, if losses go on at this rate.

        Returns None if more than a million times as many are needed, or if none was drawn.
        """
        capital = self.log_capital_below if self.share < epsilon else self.log_capital_above
        factor = 1.0
        while capital(epsilon, factor) < math.log(1 / delta):
            factor *= 1.05
            if factor > _MOST_FACTOR:
                return None
        return math.ceil((factor - 1) * self.drawn) if self.drawn else None


def log_capital(
    seen_X4: Int[np.ndarray, "... 4"], rate: float, share: float, factor: float = 1.0, *, above: bool
) -> Float[np.ndarray, "..."]:
    """Return the logarithms of capitals that grow if more than a share is lost, or less.

    Args:
        seen_X4: jets seen for certain, those of them that are lost, jets drawn, and those of them that are lost.
        rate: the probability with which jets are drawn.
        share: the share.
        factor: as if this many times the jets had been seen.
        above: bet that more is lost; False: less.
    """
    bet_B = _BETS * rate / share if above else -_BETS * rate / (1 - share)
    certain_X1, certain_lost_X1, drawn_X1, drawn_lost_X1 = np.moveaxis(seen_X4, -1, 0)[..., None]
    log_XB = np.zeros(bet_B.shape)
    for weight, jets_X1, lost_X1 in ((1.0, certain_X1, certain_lost_X1), (1 / rate, drawn_X1, drawn_lost_X1)):
        log_XB = log_XB + lost_X1 * np.log1p(bet_B * weight * (1 - share))
        log_XB = log_XB + (jets_X1 - lost_X1) * np.log1p(-bet_B * weight * share)
    log_X: npt.NDArray[np.float64] = np.logaddexp.reduce(factor * log_XB, axis=-1)
    return log_X - math.log(len(bet_B))
