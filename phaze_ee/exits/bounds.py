"""Finite-sample bounds on a risk, and tests of a sequence of policies against them.

*Learn then Test* (Angelopoulos et al., arXiv:2110.01052) with fixed-sequence testing; *conformal risk control*
(Angelopoulos et al., arXiv:2208.02814). Both assume that calibration jets and later jets are exchangeable.
"""

import math
from collections.abc import Callable, Iterable, Sequence

# The search for a number of jets ends here.
_MOST_JETS = 10**9


def binomial_p_value(losses: float, jets: float, epsilon: float) -> float:
    """Return the exact p-value P(Binomial(n, ε) ≤ losses) of "the probability of a loss exceeds ε"; 1 for n = 0.

    Numbers that are expected, not counted, need not be whole.
    """
    from scipy.special import betaincc

    return 1.0 if losses >= jets else float(betaincc(losses + 1, jets - losses, epsilon))


def upper_bound(losses: float, jets: float, delta: float) -> float:
    """Return the exact upper limit of the probability of a loss at confidence 1 − δ.

    It is the one-sided limit of Clopper and Pearson (Biometrika 26 (1934) 404).
    """
    from scipy.special import betainccinv

    return 1.0 if losses >= jets else float(betainccinv(losses + 1, jets - losses, delta))


def last_passing(p_values: Iterable[float], delta: float) -> int | None:
    """Test policies in order, the safest first, and stop at the first with p > δ (fixed-sequence testing).

    Returns the index of the last policy that passed; None if the first fails. The order must not depend on the jets
    that gave the p-values. Then the probability that the chosen policy breaks its promise is at most δ, for any number
    of policies.
    """
    chosen = None
    for index, p_value in enumerate(p_values):
        if p_value > delta:
            break
        chosen = index
    return chosen


def last_conformal(risks: Sequence[float], jets: Sequence[int], epsilon: float) -> int | None:
    """Return the last policy, from the safest, such that its risk R̂ and all before are at most ((n + 1)·ε − 1)/n.

    The expected loss is then at most ε if the risk never falls from one policy to the next (arXiv:2208.02814,
    theorem 1, for losses of at most 1). This holds on average over calibration samples, not with a confidence.
    """
    limits = (((count + 1) * epsilon - 1) / count if count else -1.0 for count in jets)
    return last_passing((risk - limit for risk, limit in zip(risks, limits, strict=True)), 0.0)


def jets_needed(rate: float, epsilon: float, delta: float) -> int | None:
    """Return the number of jets that would show a risk below ε at confidence 1 − δ, with losses at this rate.

    Returns None if no number would, because the rate is not below ε, or if more than 10⁹ jets are needed.
    """
    if rate >= epsilon:
        return None
    return least_jets(lambda jets: binomial_p_value(math.ceil(jets * rate), jets, epsilon) <= delta)


def least_jets(shows: Callable[[int], bool]) -> int | None:
    """Return the least number of jets for which a test passes; None if it is above 10⁹.

    Args:
        shows: whether the test passes with a number of jets, and so with every larger number.
    """
    high = 1
    while not shows(high):
        high *= 2
        if high > _MOST_JETS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high
