"""A bet against the mean of losses in [−1, 1]: a test and an upper limit that are exact for a finite sample.

If the mean loss is at least m, the capital K(m) = Π (1 + λ·(m − loss)) has an expectation of at most 1, for jets that
are independent and a part λ that does not depend on them. So K(m) ≥ 1/δ has a probability of at most δ (Markov). This
is the capital of Waudby-Smith and Ramdas (arXiv:2010.09686, section 4) with one bet for all jets, so it does not
depend on their order.
"""

import math
from dataclasses import dataclass
from typing import final

from phaze_ee.exits.bounds import least_jets

# A bet of 1/2 can lose everything: if the limit is −1 and the loss is 1.
_LARGEST_BET = 0.49
_HALVINGS = 60


@final
@dataclass(frozen=True)
class NetLosses:
    """Losses of ``jets`` jets: 1 for the ``lost``, −1 for the ``gained``, 0 for the others.

    Numbers that are expected, not counted, need not be whole.
    """

    lost: float
    gained: float
    jets: float

    @property
    def mean(self) -> float:
        return (self.lost - self.gained) / self.jets

    @property
    def error(self) -> float:
        """The standard error of the mean loss."""
        return math.sqrt(max(0.0, (self.lost + self.gained) / self.jets - self.mean**2) / self.jets)

    def bet(self, jets: float, delta: float) -> float:
        """Return the part to bet on this many other jets, which best shows a difference at confidence 1 − δ.

        It is √(2·log(1/δ) / (n·σ²)) with the variance σ² of these losses, as in arXiv:2010.09686, section 3.2.
        """
        # One more jet with a loss: a variance of 0 would be a guess that no jet can ever be lost.
        variance = (self.lost + self.gained + 1) / (self.jets + 1)
        return min(_LARGEST_BET, math.sqrt(2 * math.log(1 / delta) / (max(jets, 1) * variance)))

    def p_value(self, epsilon: float, bet: float) -> float:
        """Return the p-value min(1, 1/K(ε)) of "the mean loss is at least ε"; 1 without jets."""
        return math.exp(min(0.0, -self._log_capital(epsilon, bet)))

    def upper_limit(self, delta: float, bet: float) -> float:
        """Return the upper limit of the mean loss at confidence 1 − δ; at most 1."""
        low, high = -1.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._log_capital(middle, bet) >= math.log(1 / delta) else (middle, high)
        return high

    def expected(self, jets: float) -> "NetLosses":
        """Return what another number of jets is expected to lose and to gain at the same rates."""
        factor = jets / self.jets
        return NetLosses(self.lost * factor, self.gained * factor, jets)

    def jets_needed(self, epsilon: float, delta: float) -> int | None:
        """Return how many jets would show a mean loss below ε at confidence 1 − δ, with losses at these rates.

        The bet is that of as many other jets with the same rates. Returns None if no number would, because the mean is
        not below ε, or if more than 10⁹ jets are needed.
        """
        if self.mean >= epsilon:
            return None
        return least_jets(lambda jets: self.expected(jets).shows(epsilon, delta))

    def shows(self, epsilon: float, delta: float) -> bool:
        """Return whether these losses show a mean below ε, with the bet of as many other jets with the same rates."""
        return self.p_value(epsilon, self.bet(self.jets, delta)) <= delta

    def _log_capital(self, mean: float, bet: float) -> float:
        rest = self.jets - self.lost - self.gained
        return (
            self.lost * math.log1p(bet * (mean - 1))
            + self.gained * math.log1p(bet * (mean + 1))
            + rest * math.log1p(bet * mean)
        )
