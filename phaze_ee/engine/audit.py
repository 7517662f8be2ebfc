"""Audits: some of the jets that leave early go on to the full model, with a known probability.

The pairs of answers estimate, without labels, what the exits change. The weight of an audited jet is one over its
probability (Horvitz and Thompson, J. Am. Stat. Assoc. 47 (1952) 663), so that weighted means are unbiased. torch is
imported on use: what an audit found is read where torch is not installed.
"""

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, final

import numpy as np

from phaze_ee.errors import UsageError
from phaze_ee.results.base import Record
from phaze_ee.shapes import Bool, Float, Int

if TYPE_CHECKING:
    from torch import Tensor


@final
@dataclass(frozen=True)
class Audit:
    """The probability with which a jet that leaves early goes on to the full model.

    It never depends on the answer of the full model.

    Args:
        rate: the probability.
        near: a jet whose score is less than this above the threshold goes on for certain.

    Raises:
        UsageError: the rate is not in (0, 1], or ``near`` is negative or not finite.
    """

    rate: float
    near: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise UsageError(f"an audit of {self.rate:g} is not a probability; give a number above 0 and at most 1")
        if not 0 <= self.near < float("inf"):
            raise UsageError(
                f"an audit near the threshold within {self.near:g} is not a distance; give a number of at least 0"
            )

    def probability(self, margin_N: "Float[Tensor, ' N']") -> "Float[Tensor, ' N']":
        """Return the probability of each jet, whose score is this far above the threshold."""
        return margin_N.new_full(margin_N.shape, self.rate).masked_fill(margin_N < self.near, 1.0)


@final
@dataclass(frozen=True)
class Audited:
    """What an audit adds to the answers for N jets.

    Attributes:
        every_NEK: the logits of each exit, divided by its temperature, for jets that were audited or reached the full
            model by themselves; NaN for the others, and at exits that are not evaluated.
        weight_N: one over the probability of an audited jet; 1 for a jet that reached the full model by itself, 0 for
            the others.
        macs_N: the multiply-accumulates after the exit where an audited jet left; 0 for the others.
    """

    every_NEK: "Float[Tensor, 'N E K']"
    weight_N: "Float[Tensor, ' N']"
    macs_N: "Int[Tensor, ' N']"

    @property
    def logits_NK(self) -> "Float[Tensor, 'N K']":
        """The logits of the full model."""
        return self.every_NEK[:, -1]

    def cpu(self) -> "Audited":
        """Return the answers in the memory of the CPU."""
        return Audited(*(getattr(self, item.name).cpu() for item in fields(self)))


@final
class ChunkAudit:
    """The audit of one chunk of N jets on its way through the tagger.

    Args:
        audit: the probabilities.
        draw_N: a number in [0, 1) for each jet, which goes on if it is below the probability.
    """

    def __init__(self, audit: Audit, draw_N: "Float[Tensor, ' N']") -> None:
        self.audit, self.draw_N = audit, draw_N
        self.weight_N = draw_N.new_zeros(draw_N.shape)

    def goes_on(self, row_L: "Int[Tensor, ' L']", margin_L: "Float[Tensor, ' L']") -> "Bool[Tensor, ' L']":
        """Return which of the jets that leave go on to the full model.

        Args:
            row_L: the jets, of N.
            margin_L: how far the score of each is above the threshold.
        """
        probability_L = self.audit.probability(margin_L.double())
        chosen_L = self.draw_N[row_L] < probability_L
        self.weight_N[row_L[chosen_L]] = 1 / probability_L[chosen_L]
        return chosen_L


@final
class AuditReport(Record):
    """What an audit found. The share of all jets with another class than from the full model is ``changed`` / ``jets``.

    Attributes:
        jets: all jets.
        left: the jets that left early.
        audited: those of them that went on to the full model.
        macs: what that cost, in multiply-accumulates.
        found: the audited jets with another class.
        changed: the sum of their weights.
        changed_squares: the sum of the squares of their weights.
    """

    jets: int
    left: int
    audited: int
    macs: int
    found: int
    changed: float
    changed_squares: float

    @classmethod
    def of(
        cls, logits_NK: "Float[Tensor, 'N K']", exit_index_N: "Int[Tensor, ' N']", exits: int, audited: Audited
    ) -> "AuditReport":
        """Count jets.

        Args:
            logits_NK: the answers at the exits where the jets left.
            exit_index_N: these exits.
            exits: the number of exits, without the full model.
            audited: what the audit adds.
        """
        left_N = exit_index_N < exits
        audited_N = left_N & (audited.weight_N > 0)
        changed_N = audited_N & (logits_NK.argmax(dim=1) != audited.logits_NK.argmax(dim=1))
        weight = audited.weight_N[changed_N]
        return cls(
            jets=len(left_N),
            left=int(left_N.sum()),
            audited=int(audited_N.sum()),
            macs=int(audited.macs_N.sum()),
            found=int(changed_N.sum()),
            changed=float(weight.sum()),
            changed_squares=float((weight * weight).sum()),
        )

    @property
    def share(self) -> float:
        """The estimated share of the jets with another class than from the full model."""
        return self.changed / max(1, self.jets)

    @property
    def share_error(self) -> float:
        """The standard error of the share, for jets that are drawn independently."""
        variance: float = self.changed_squares / max(1, self.jets) - self.share**2
        return float((variance / max(1, self.jets)) ** 0.5)

    def __add__(self, other: "AuditReport") -> "AuditReport":
        return AuditReport(**{name: getattr(self, name) + getattr(other, name) for name in AuditReport.model_fields})


def draws(seed: int, file: str, size: int, row_N: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Return a random number in [0, 1) for each row of a file.

    It depends on the arguments alone, and not on which other rows there are.

    Args:
        seed: another seed gives other numbers.
        file: the name of the file, without its folder.
        size: its size in bytes.
        row_N: the rows.
    """
    if not len(row_N):
        return np.empty(0)
    first, last = int(row_N.min()), int(row_N.max())
    key = hashlib.sha256(f"{seed}/{size}/{file}".encode()).digest()
    generator = np.random.PCG64(int.from_bytes(key, "little")).advance(first)
    raw = np.atleast_1d(generator.random_raw(last - first + 1))
    draw_N: Float[np.ndarray, " N"] = (raw[row_N - first] >> np.uint64(11)) * 2.0**-53
    return draw_N
