"""The evidence that jets differ from a reference, histogram by histogram. It may be looked at after any block of jets.

:mod:`phaze_ee.exits.ranks` says how each histogram is tested. Jets may change at any time: the capital is divided among
bets that begin before the first block (a half) and after each block c (1/(2c(c+1)) each). Of these, the first and some
later ones are kept (:mod:`phaze_ee.exits.starts`). The sum exceeds 1/δ at any time with a probability of at most δ.
"""

import hashlib
import math
from typing import Self, final

import numpy as np
from pydantic import FiniteFloat, model_validator

from phaze_ee.exits.drift import Count, DriftReference
from phaze_ee.exits.ranks import halves, increments, log_capital
from phaze_ee.exits.starts import kept_starts, share_of
from phaze_ee.results.base import Record


@final
class Tally(Record):
    """One histogram at one time: all jets so far, the reference included, and the sums of the increments."""

    counts: list[Count]
    sums: list[FiniteFloat]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.sums) != len(halves(len(self.counts)).level_H):
            raise ValueError("the numbers of counts and sums do not fit")
        return self


@final
class Tallies(Record):
    """All histograms, by name, after a number of blocks."""

    blocks: int
    tallies: dict[str, Tally]


@final
class DriftEvidence(Record):
    """The evidence of all blocks so far.

    Attributes:
        now: the histograms.
        starts: the histograms when bets began; the first is the reference.
        evidence: the capital of each histogram now, as its decimal logarithm.
        largest: the largest so far.
    """

    now: Tallies
    starts: list[Tallies]
    evidence: dict[str, float]
    largest: dict[str, float]

    @model_validator(mode="after")
    def _check(self) -> Self:
        bins = {name: len(tally.counts) for name, tally in self.now.tallies.items()}
        if any({name: len(tally.counts) for name, tally in start.tallies.items()} != bins for start in self.starts):
            raise ValueError("the histograms do not fit")
        if not self.evidence.keys() == self.largest.keys() == bins.keys():
            raise ValueError("there is not one number for each histogram")
        return self

    @classmethod
    def begin(cls, reference: DriftReference) -> Self:
        """Return the evidence before the first block."""
        tallies = {
            name: Tally(counts=own.counts, sums=[0.0] * len(halves(len(own.counts)).level_H))
            for name, own in reference.distributions.items()
        }
        start, nothing = Tallies(blocks=0, tallies=tallies), dict.fromkeys(tallies, 0.0)
        return cls(now=start, starts=[start], evidence=nothing, largest=nothing)

    def having(self, block: DriftReference, key: str) -> Self:
        """Return the evidence with another block of jets, which are counted in the bins of the reference.

        Args:
            block: the jets.
            key: names the block, and decides ranks between equal counts.
        """
        digest = hashlib.sha256(f"{self.now.blocks}/{key}".encode()).digest()
        random = np.random.default_rng(int.from_bytes(digest, "little"))
        now = Tallies(
            blocks=self.now.blocks + 1,
            tallies={
                name: _added(tally, block.distributions[name].counts, random)
                for name, tally in self.now.tallies.items()
            },
        )
        evidence = {name: self._log10(name, now) for name in now.tallies}
        largest = {name: max(value, self.largest[name]) for name, value in evidence.items()}
        kept = kept_starts(now.blocks)
        starts = [start for start in [*self.starts, now] if start.blocks in kept]
        return type(self)(now=now, starts=starts, evidence=evidence, largest=largest)

    def _log10(self, name: str, now: Tallies) -> float:
        tally = now.tallies[name]
        starts = [start.tallies[name] for start in self.starts]
        log_S = log_capital(
            np.array([start.counts for start in starts]),
            np.array(tally.counts),
            np.array(tally.sums) - np.array([start.sums for start in starts]),
        )
        log_S += np.log([share_of(start.blocks) for start in self.starts])
        return float(np.logaddexp.reduce(log_S)) / math.log(10)


def _added(tally: Tally, block: list[int], random: np.random.Generator) -> Tally:
    pool_B, block_B = np.array(tally.counts), np.array(block)
    sums_H = np.array(tally.sums) + increments(pool_B, block_B, random)
    return Tally(counts=(pool_B + block_B).tolist(), sums=sums_H.tolist())
