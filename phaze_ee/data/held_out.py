"""Jets that are kept from one use for another, in a fixed pattern."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from phaze_ee.data.batches import take
from phaze_ee.data.epochs import GOLDEN_RATIO
from phaze_ee.types import JetBatch


@dataclass(frozen=True)
class Part:
    """One part of the jets of a loader, in their order; it can be walked as often as the loader can.

    Which jets are held out depends on their position alone: the multiples of the golden ratio, modulo 1, spread them
    evenly over files and classes.

    Args:
        batches: all jets.
        share: of the jets are held out, between 0 and 1.
        held_out: whether this is the part that is held out, or the rest.
    """

    batches: Iterable[JetBatch]
    share: float
    held_out: bool

    def __iter__(self) -> Iterator[JetBatch]:
        position = 0
        for batch in self.batches:
            phase_N = np.arange(position, position + len(batch)) * GOLDEN_RATIO % 1
            chosen_N = np.flatnonzero((phase_N < self.share) == self.held_out)
            position += len(batch)
            if len(chosen_N):
                yield take(batch, torch.from_numpy(chosen_N))
