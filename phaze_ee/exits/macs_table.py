"""What jets cost at each exit, looked up instead of computed anew for every chunk."""

from collections.abc import Collection
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from phaze_ee.models.tagger import Tagger

_AT_FIRST = 128  # particles, which jets seldom exceed


@final
class MacsTable:
    """The multiply-accumulates at each exit of jets with 0, 1, 2 … particles, up to the most that came so far.

    Args:
        tagger: whose exits these are.
        exits: the exits that are evaluated; None: all (:meth:`Tagger.exit_macs`).
    """

    def __init__(self, tagger: Tagger, exits: Collection[int] | None) -> None:
        self._tagger, self._exits = tagger, exits
        self._table_EM = self._up_to(_AT_FIRST)  # only ever replaced as a whole: threads share it

    def __call__(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, "E N"]:
        """Return the multiply-accumulates of jets that leave at each exit, by their number of particles."""
        table_EM = self._table_EM
        most = int(particle_count_N.max()) if particle_count_N.shape[0] else 0
        if most >= table_EM.shape[1]:
            table_EM = self._table_EM = self._up_to(2 * most)
        return table_EM.to(particle_count_N.device).index_select(1, particle_count_N)

    def _up_to(self, most: int) -> Int[Tensor, "E M"]:
        return self._tagger.exit_macs(torch.arange(most + 1), exits=self._exits)
