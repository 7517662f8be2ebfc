"""Differences between two answers for the same jets.

Two taggers that judge the same jets are right and wrong on mostly the same ones. The error of the difference of their
accuracies is therefore smaller than that of two independent accuracies: only jets on which one alone is right count.

A training with another seed gives another accuracy on the same jets. Two methods differ only if their difference is
large against this spread as well, see :meth:`Difference.over_seeds`.
"""

import base64
import binascii
import zlib
from collections.abc import Sequence
from math import erfc, exp, log, sqrt
from typing import NamedTuple, Self, final

import numpy as np

from phaze_ee.errors import UsageError
from phaze_ee.shapes import Bool, Float

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
        step = np.arange(1, fewer + 1)
        log_ratio = np.concatenate([[0.0], np.cumsum(np.log((changed + 1 - step) / step))])
        log_tail = np.logaddexp.reduce(log_ratio) - (changed - 1) * log(2)
        return min(1.0, exp(float(log_tail)))


@final
class Difference(NamedTuple):
    """An accuracy minus that of a reference, and how sure this is.

    Attributes:
        value: the difference; with seeds, that of the mean accuracies.
        jets_error: its standard error for the finite number of jets, the trained networks given.
        spread: the standard deviation over seeds of the difference of one training to another; None: no seeds.
        p_value: the two-sided p-value of equal accuracies.
    """

    value: float
    jets_error: float
    spread: float | None
    p_value: float

    @property
    def above_floor(self) -> bool:
        """Whether the difference is larger than the spread over seeds; below it nothing is claimed."""
        return self.spread is None or abs(self.value) > self.spread

    @classmethod
    def of_models(cls, right_N: Bool[np.ndarray, " N"], reference_N: Bool[np.ndarray, " N"]) -> Self:
        """Return the difference of two networks on the same jets, with the error and p-value of PairedCounts."""
        counts = PairedCounts.of(right_N, reference_N)
        return cls(counts.difference, counts.error, None, counts.p_value)

    @classmethod
    def over_seeds(
        cls, right_SN: Bool[np.ndarray, "S N"], reference_TN: Bool[np.ndarray, "T N"], *, same_seeds: bool = False
    ) -> Self:
        """Return the difference of the mean accuracies of two sets of trainings on the same N jets.

        For the accuracies a_s of the S trainings and b_t of the T of the reference, it is mean(a) - mean(b). With the
        standard deviations σ_a and σ_b over the seeds (n - 1 in the denominator), its variance is

            σ_a²/S + σ_b²/T + var_j(d_j)/N,    d_j = mean_s(jet j is right) - mean_t(jet j is right).

        The last term is that of paired jets. σ also holds the part of the jets' fluctuation that differs from seed to
        seed, which is thus counted once too often: the error is on the safe side. ``spread`` is √(σ_a² + σ_b²). A set
        of one training is taken to spread as the other one.

        The p-value is that of Student's t with the degrees of freedom of Satterthwaite (Biometrics Bulletin 2 (1946)
        110): S - 1 and T - 1 for the seeds, infinitely many for the jets.

        Args:
            right_SN: which jets each training has right.
            reference_TN: the same for the reference.
            same_seeds: training s and reference s are two answers of one training (S = T), such as those of an exit and
                of its full model. Then σ is that of their differences a_s - b_s, in one term σ²/S.
        """
        per_jet_N = right_SN.mean(axis=0) - reference_TN.mean(axis=0)
        value, jets_variance = float(per_jet_N.mean()), float(per_jet_N.var() / per_jet_N.size)
        first_S, second_T = right_SN.mean(axis=1), reference_TN.mean(axis=1)
        groups = [first_S - second_T] if same_seeds else [first_S, second_T]
        spread, seeds_variance, degrees = _seeds(groups, jets_variance)
        return cls(value, sqrt(jets_variance), spread, _p_value(value, seeds_variance + jets_variance, degrees))

    @classmethod
    def unpaired(cls, accuracy_S: Float[np.ndarray, " S"], other_T: Float[np.ndarray, " T"], jets_error: float) -> Self:
        """Return the difference for other jets: ``jets_error`` is then that of two independent accuracies."""
        value = float(accuracy_S.mean() - other_T.mean())
        spread, seeds_variance, degrees = _seeds([accuracy_S, other_T], jets_error**2)
        return cls(value, jets_error, spread, _p_value(value, seeds_variance + jets_error**2, degrees))


def pack_bits(right_N: Bool[np.ndarray, " N"]) -> str:
    """Return whether each jet is right as text: one bit each, deflated, in base64."""
    return base64.b64encode(zlib.compress(np.packbits(right_N).tobytes(), 9)).decode("ascii")


def unpack_bits(text: str, jets: int, where: str) -> Bool[np.ndarray, " N"]:
    """Return what :func:`pack_bits` has packed.

    Args:
        text: the packed bits.
        jets: how many there are.
        where: what holds them, for an error.

    Raises:
        UsageError: the text is not of this number of jets.
    """
    size = -(-jets // 8)
    try:
        inflater = zlib.decompressobj()
        content = inflater.decompress(base64.b64decode(text, validate=True), size + 1)  # a bomb stops here
    except (binascii.Error, zlib.error, ValueError):
        content = b""
    if len(content) != size:
        raise UsageError(f"{where}: right_jets are not those of {jets:,} jets; run mode 'evaluate' again")
    return np.unpackbits(np.frombuffer(content, np.uint8), count=jets).astype(bool)


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


def _seeds(groups: Sequence[Float[np.ndarray, " S"]], jets_variance: float) -> tuple[float | None, float, float]:
    """Return the spread over seeds of a difference, its variance for the finite number of seeds, and the freedom.

    The degrees of freedom are those of the variance with ``jets_variance`` added; infinite without seeds.
    """
    repeated = [values for values in groups if len(values) > 1]
    if not repeated:
        return None, 0.0, float("inf")
    own = [float(values.var(ddof=1)) for values in repeated]
    if len(repeated) < len(groups):  # one training: the variance of the others counts for both
        variances = own * len(groups)
        known = sum(own[0] / len(values) for values in groups) ** 2 / (len(repeated[0]) - 1)
    else:
        variances = own
        known = sum(
            (variance / len(values)) ** 2 / (len(values) - 1) for variance, values in zip(own, groups, strict=True)
        )
    terms = [variance / len(values) for variance, values in zip(variances, groups, strict=True)]
    total = sum(terms) + jets_variance
    return sqrt(sum(variances)), sum(terms), total**2 / known if known else float("inf")


def _p_value(value: float, variance: float, degrees: float) -> float:
    if variance == 0:
        return 1.0 if value == 0 else 0.0
    ratio = abs(value) / sqrt(variance)
    if degrees == float("inf"):
        return erfc(ratio / sqrt(2))
    from scipy.special import stdtr

    return 2 * float(stdtr(degrees, -ratio))
