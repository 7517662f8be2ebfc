"""Bounds on a risk that hold for finite samples, and how a sequence of policies is tested against them.

*Learn then Test* (Angelopoulos et al., arXiv:2110.01052) with fixed-sequence testing; *conformal risk control*
(Angelopoulos et al., arXiv:2208.02814). All need calibration jets that are exchangeable with those of later use.
"""

import math
from collections.abc import Iterable, Sequence

from scipy.special import betaincc, betainccinv

# What jets_needed looks at, at most.
_MOST_JETS = 10**9


def binomial_p_value(losses: int, jets: int, epsilon: float) -> float:
    """Return the p-value of "the probability of a loss exceeds ε", exact: P(Binomial(n, ε) ≤ losses); 1 for no jets."""
    return 1.0 if losses >= jets else float(betaincc(losses + 1, jets - losses, epsilon))


def upper_bound(losses: int, jets: int, delta: float) -> float:
    """Return the exact upper limit of the probability of a loss at confidence 1 − δ (Clopper–Pearson)."""
    return 1.0 if losses >= jets else float(betainccinv(losses + 1, jets - losses, delta))


def last_passing(p_values: Iterable[float], delta: float) -> int | None:
    """Walk from the safest policy on while p ≤ δ; return the index of the last that passed, None if the first fails.

    The order must not depend on the jets that gave the p-values. Then the chance that the chosen policy breaks its
    promise is at most δ, however many policies were tested.
    """
    chosen = None
    for index, p_value in enumerate(p_values):
        if p_value > delta:
            break
        chosen = index
    return chosen


def last_conformal(risks: Sequence[float], jets: Sequence[int], epsilon: float) -> int | None:
    """Return the last policy, from the safest on, whose risk R̂ and those before are ≤ ((n + 1)·ε − 1)/n.

    The expected loss is then at most ε where the risk does not fall from one policy to the next. It holds on average
    over calibration samples, not with a confidence.
    """
    limits = (((count + 1) * epsilon - 1) / count if count else -1.0 for count in jets)
    return last_passing((risk - limit for risk, limit in zip(risks, limits, strict=True)), 0.0)


def jets_needed(rate: float, epsilon: float, delta: float) -> int | None:
    """Return how many jets would show at confidence 1 − δ that the risk is below ε, if losses came at this rate.

    None: no number would, the rate is not below ε, or it is so near that more than 10⁹ are needed.
    """
    high = 1
    while not _shows(rate, high, epsilon, delta):
        high *= 2
        if rate >= epsilon or high > _MOST_JETS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _shows(rate, middle, epsilon, delta) else (middle, high)
    return high


def _shows(rate: float, jets: int, epsilon: float, delta: float) -> bool:
    return binomial_p_value(math.ceil(jets * rate), jets, epsilon) <= delta
