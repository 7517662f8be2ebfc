"""Cuts and shuffles streams of jets."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from phaze_ee.data.epochs import GOLDEN_RATIO
from phaze_ee.data.jet_columns import JetColumns
from phaze_ee.shapes import Int
from phaze_ee.types import JetBatch

# Jets that are shuffled together: 20,000 jets of 40 particles and 26 variables take 83 MB, twice that while joined.
POOL_JETS = 20_000


class _Part(Protocol):
    """Jets of which a slice can be taken."""

    def __len__(self) -> int: ...

    def take(self, index_N: slice) -> JetColumns: ...


@dataclass(frozen=True)
class Shuffled:
    """Jets in another order; particles are copied only when jets are taken."""

    jets: JetColumns
    order_N: Int[Tensor, " N"]

    @classmethod
    def by(cls, rng: np.random.Generator, jets: JetColumns) -> "Shuffled":
        """Return the jets in a random order."""
        return cls(jets, torch.from_numpy(rng.permutation(len(jets))))

    def __len__(self) -> int:
        return len(self.order_N)

    def take(self, index_N: slice) -> JetColumns:
        return self.jets.take(self.order_N[index_N])


def take(batch: JetBatch, index_N: Tensor) -> JetBatch:
    """Return the jets that an index names."""
    # as numpy: an index tensor with one element would pick a scalar instead of a column of one
    observers = {name: column[index_N.numpy()] for name, column in batch.observers.items()}
    target_NR = None if batch.target_NR is None else batch.target_NR[index_N]
    return JetBatch(batch.inputs.select(index_N), batch.label_N[index_N], observers, target_NR)


def recut(parts: Iterable[_Part], sizes: Iterable[int]) -> Iterator[JetColumns]:
    """Yield the jets of ``parts`` in their order, in pieces of the given sizes; the rest comes last."""
    remaining = iter(sizes)
    held: list[JetColumns] = []
    missing = next(remaining, None)
    for part in parts:
        start = 0
        while missing is not None and len(part) - start >= missing:
            held.append(part.take(slice(start, start + missing)))
            joined, held = JetColumns.concatenate(held), []
            yield joined
            del joined  # otherwise two pieces are in memory while the next is joined
            start, missing = start + missing, next(remaining, None)
        if start < len(part):
            held.append(part.take(slice(start, None)))
            missing = None if missing is None else missing - len(held[-1])
    if held:
        yield JetColumns.concatenate(held)


def batch_sizes(jet_count: int, batch_size: int) -> list[int]:
    """Return the sizes of the batches of an epoch.

    BatchNorm needs two jets, so a single remaining jet joins the last batch.
    """
    whole, left = divmod(jet_count, batch_size)
    sizes = [batch_size] * whole
    if left == 1 and sizes:
        sizes[-1] += 1
    elif left:
        sizes.append(left)
    return sizes


@dataclass(frozen=True)
class HeldOut:
    """One part of the jets of a loader, in their order; it can be walked as often as the loader.

    Which jets are held out depends on the position of each in that order, or on a number that it has. Multiples of the
    golden ratio, modulo 1, spread them evenly over files and classes.

    Args:
        batches: all jets.
        share: the share of the jets that is held out, between 0 and 1.
        held_out: True: the jets that are held out; False: the others.
        number: the observer with a number for each jet, which the part does not have; None: its position.
    """

    batches: Iterable[JetBatch]
    share: float
    held_out: bool
    number: str | None = None

    def __iter__(self) -> Iterator[JetBatch]:
        position = 0
        for batch in self.batches:
            others = dict(batch.observers)
            number_N = np.arange(position, position + len(batch)) if self.number is None else others.pop(self.number)
            phase_N = number_N.astype(np.float64) * GOLDEN_RATIO % 1
            chosen_N = np.flatnonzero((phase_N < self.share) == self.held_out)
            position += len(batch)
            if len(chosen_N):
                yield take(replace(batch, observers=others), torch.from_numpy(chosen_N))
