"""The state of a batch whose jets are stored without padding: particle after particle, jet after jet."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Self, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from phaze_ee.types import State, select_ragged

# Jets of similar multiplicity that are searched for neighbours at once; padding inside a group is wasted work.
_GROUP_SIZE = 32
# Particles that a module is applied to at once in inference, so that the memory for what it makes on the way does not
# grow with the batch. Fewer stay in the cache, but must be joined, which takes as long as that saves.
_ROWS = 16_384


@final
@dataclass(frozen=True)
class JetGroup:
    """Jets of similar multiplicity, G of them, the longest with M particles: where each particle is stored."""

    row_GM: Int[Tensor, "G M"]  # arbitrary where not valid
    valid_GM: Bool[Tensor, "G M"]
    slot_R: Int[Tensor, " R"]  # which of the G·M slots are valid
    row_R: Int[Tensor, " R"]  # and the particles in these
    first_R: Int[Tensor, " R"]  # the first particle of their jets


@final
class JetLayout:
    """Which of V particles belong to which jet. Jets stay in the order of the input; groups are sorted inside."""

    def __init__(self, count_N: Int[Tensor, " N"]) -> None:
        self.count_N = count_N

    def __len__(self) -> int:
        return self.count_N.shape[0]

    @cached_property
    def offset_N(self) -> Int[Tensor, " N"]:
        """The first particle of each jet."""
        return self.count_N.cumsum(0) - self.count_N

    @cached_property
    def groups(self) -> tuple[JetGroup, ...]:
        """All jets that have particles, in groups of similar multiplicity."""
        return tuple(self._make_groups())

    def _make_groups(self) -> Iterator[JetGroup]:
        sorted_N, order_N = self.count_N.sort(descending=True)
        filled = int(self.count_N.count_nonzero())
        offset_N = self.offset_N[order_N]
        for start in range(0, filled, _GROUP_SIZE):
            group = slice(start, min(start + _GROUP_SIZE, filled))
            position_M = torch.arange(int(sorted_N[start]), device=self.count_N.device)
            valid_GM = position_M < sorted_N[group, None]
            row_GM = (offset_N[group, None] + position_M).where(valid_GM, 0)
            slot_R = valid_GM.flatten().nonzero()[:, 0]
            first_R = offset_N[group].repeat_interleave(sorted_N[group])
            yield JetGroup(row_GM, valid_GM, slot_R, row_GM.flatten()[slot_R], first_R)


@final
@dataclass(frozen=True)
class PackedState(State):
    """Features of V particles; ``coordinates_VD`` are what neighbours are searched in.

    ``length`` is the length P to which the padded form of this batch is padded: BatchNorm in training, and a network
    that averages over P, need it.
    """

    features_VC: Float[Tensor, "V C"]
    coordinates_VD: Float[Tensor, "V D"]
    layout: JetLayout
    length: int
    earlier: tuple[Float[Tensor, "V _"], ...] = ()  # outputs of earlier stages, where a fusion readout needs them

    def __len__(self) -> int:
        return len(self.layout)

    def select(self, keep_N: Tensor) -> Self:
        row_V, count_N = select_ragged(self.layout.count_N, keep_N)
        features_VC = self.features_VC.index_select(0, row_V)
        # After the first stage the coordinates are the features: gather them once.
        shared = self.coordinates_VD is self.features_VC
        return replace(
            self,
            features_VC=features_VC,
            coordinates_VD=features_VC if shared else self.coordinates_VD.index_select(0, row_V),
            layout=JetLayout(count_N),
            earlier=tuple(output_VC.index_select(0, row_V) for output_VC in self.earlier),
        )

    def detach(self) -> Self:
        return replace(self, features_VC=self.features_VC.detach())

    def map(self, per_particle: nn.Module) -> Self:
        if torch.is_grad_enabled() or len(self.features_VC) <= _ROWS:
            return replace(self, features_VC=per_particle(self.features_VC))
        pieces = torch.split(self.features_VC, _ROWS)
        return replace(self, features_VC=torch.cat([per_particle(row_RC) for row_RC in pieces]))

    def pool(self, kind: Literal["mean", "max"]) -> Float[Tensor, "N C"]:
        return pool_rows(self.features_VC, self.layout, kind)

    def rows(self) -> Float[Tensor, "V C"]:
        return self.features_VC

    def counts(self) -> Int[Tensor, " N"]:
        return self.layout.count_N


def pool_rows(row_VC: Float[Tensor, "V C"], layout: JetLayout, kind: Literal["sum", "mean", "max"]) -> Tensor:
    """Reduce the particles of each jet; a jet without particles gives zeros."""
    if kind == "max":  # for this, embedding_bag takes five times as long as a scatter
        jet_VC = torch.repeat_interleave(layout.count_N)[:, None].expand_as(row_VC)
        zero_NC = row_VC.new_zeros(len(layout), row_VC.shape[1])
        return zero_NC.scatter_reduce(0, jet_VC, row_VC, "amax", include_self=False)
    particle_V = torch.arange(len(row_VC), device=row_VC.device)
    return embedding_bag(particle_V, row_VC, layout.offset_N, mode=kind)
