"""Three tests of the mean of losses −1, 0 and 1 against a limit, exact for a finite sample of independent jets.

**A bet.** If the mean loss is at least m, the capital K(m) = Π (1 + λ·(m − loss)) has an expectation of at most 1 for a
part λ that does not depend on the jets. So K(m) ≥ 1/δ has a probability of at most δ (Markov). This is the capital of
Waudby-Smith and Ramdas (arXiv:2010.09686, section 4) with one bet for all jets, so it does not depend on their order.

**A count of losses among the jets that change.** A share s of the jets is lost or gained. Given their number F, the
lost ones are binomial with the probability (1 + mean/s)/2. A limit s' of s (Clopper and Pearson) is exceeded with a
probability of at most β, and otherwise a mean of at least m > 0 gives at least (1 + m/s')/2. So the p-value is
β + P(Binomial(F, (1 + m/s')/2) ≤ lost): the nuisance s is bounded as by Berger and Boos (JASA 89 (1994) 1012), and
conditioning on F is McNemar's. If s' is below m, the p-value is β. It needs about a third fewer jets than the bet if
the losses nearly cancel, and more if few jets are gained.

**A count of the losses** alone, as if no jet were gained: the mean is at most their share. It is binomial.

Other jets decide which of the tests is used (:meth:`NetLosses.best_test`), so that δ is not divided among them.
"""

import math
from dataclasses import dataclass
from typing import Literal, final

from phaze_ee.exits.bounds import binomial_p_value, least_jets, upper_bound

NetTest = Literal["binomial", "bet", "conditional"]

# A bet of 1/2 can lose everything: if the limit is −1 and the loss is 1.
_LARGEST_BET = 0.49
_HALVINGS = 60
# The part of δ that is for the share of jets that change.
_NUISANCE = 0.05
_TESTS: tuple[NetTest, ...] = ("binomial", "bet", "conditional")


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

    def conditional_p_value(self, epsilon: float, delta: float) -> float:
        """Return the p-value of "the mean loss is at least ε" from the number of losses among the jets that change.

        It is 1 without jets, and for ε ≤ 0. Of δ, the part β = δ/20 is for the share of jets that change.
        """
        if epsilon <= 0 or not self.jets:
            return 1.0
        changed, part = self.lost + self.gained, _NUISANCE * delta
        share = upper_bound(changed, self.jets, part)
        if share < epsilon:
            return part
        return min(1.0, part + binomial_p_value(self.lost, changed, (1 + epsilon / share) / 2))

    def best_test(self, jets: float, epsilon: float, delta: float) -> NetTest:
        """Return the test that is expected to give this many other jets the lower p-value."""
        if not self.jets or not jets:
            return "bet"
        later = self.expected(jets)
        return min(_TESTS, key=lambda test: later.tested(test, epsilon, self.bet(jets, delta), delta))

    def tested(self, test: NetTest, epsilon: float, bet: float, delta: float) -> float:
        """Return the p-value of one of the tests; ``bet`` is for the bet alone."""
        match test:
            case "binomial":
                return binomial_p_value(self.lost, self.jets, epsilon) if epsilon > 0 else 1.0
            case "bet":
                return self.p_value(epsilon, bet)
            case "conditional":
                return self.conditional_p_value(epsilon, delta)

    def upper_limit(self, delta: float, bet: float, test: NetTest = "bet") -> float:
        """Return the upper limit of the mean loss at confidence 1 − δ; at most 1."""
        low, high = -1.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.tested(test, middle, bet, delta) <= delta else (middle, high)
        return high

    def expected(self, jets: float) -> "NetLosses":
        """Return what another number of jets is expected to lose and to gain at the same rates."""
        factor = jets / self.jets
        return NetLosses(self.lost * factor, self.gained * factor, jets)

    def jets_needed(self, epsilon: float, delta: float) -> int | None:
        """Return how many jets would show a mean loss below ε at confidence 1 − δ, with losses at these rates.

        Test and bet are those that suit as many other jets with the same rates. Returns None if no number would,
        because the mean is not below ε, or if more than 10⁹ jets are needed.
        """
        if self.mean >= epsilon:
            return None
        return least_jets(lambda jets: self.expected(jets).shows(epsilon, delta))

    def shows(self, epsilon: float, delta: float) -> bool:
        """Return whether these losses show a mean below ε, with the test that suits other jets with these rates."""
        test = self.best_test(self.jets, epsilon, delta)
        return self.tested(test, epsilon, self.bet(self.jets, delta), delta) <= delta

    def _log_capital(self, mean: float, bet: float) -> float:
        rest = self.jets - self.lost - self.gained
        return (
            self.lost * math.log1p(bet * (mean - 1))
            + self.gained * math.log1p(bet * (mean + 1))
            + rest * math.log1p(bet * mean)
        )
