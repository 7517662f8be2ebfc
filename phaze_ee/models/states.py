"""The states of a batch between two stages: padded, with a neighbour graph, packed, or as tokens."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal, Self, final

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from phaze_ee.shapes import Bool, Float, Int
from phaze_ee.slots import select_ragged, used_slots
from phaze_ee.types import JetInputs, Jets, State


@final
@dataclass(frozen=True)
class PaddedState(State):
    """Features of padded jets, zero in padded slots. Neighbours are searched in the ``coordinates_NDP``."""

    features_NCP: Float[Tensor, "N C P"]
    coordinates_NDP: Float[Tensor, "N D P"]
    valid_N1P: Bool[Tensor, "N 1 P"]
    earlier: tuple[Float[Tensor, "N _ P"], ...] = ()  # outputs of earlier stages, if a fusion readout needs them

    def __len__(self) -> int:
        return self.features_NCP.shape[0]

    def select(self, keep_N: Tensor) -> Self:
        tensors = {item.name: getattr(self, item.name)[keep_N] for item in fields(self) if item.name != "earlier"}
        return replace(self, **tensors, earlier=tuple(output[keep_N] for output in self.earlier))

    def detach(self) -> Self:
        return replace(self, features_NCP=self.features_NCP.detach())

    def map(self, per_particle: nn.Module) -> Self:
        mapped = per_particle(self.features_NCP.transpose(1, 2)).transpose(1, 2)
        return replace(self, features_NCP=mapped.masked_fill(~self.valid_N1P, 0))

    def pool(self, kind: Literal["mean", "max"]) -> Float[Tensor, "N C"]:
        if kind == "mean":
            return self.features_NCP.sum(dim=-1) / self.valid_N1P.sum(dim=-1).clamp(min=1)
        empty_N1 = ~self.valid_N1P.any(dim=-1)
        return self.features_NCP.masked_fill(~self.valid_N1P, -float("inf")).amax(dim=-1).masked_fill(empty_N1, 0)

    def rows(self) -> Float[Tensor, "V C"]:
        return self.features_NCP.transpose(1, 2)[self.valid_N1P[:, 0]]

    def counts(self) -> Int[Tensor, " N"]:
        return self.valid_N1P.sum(dim=(1, 2))


def plain_state(inputs: Jets) -> PaddedState:
    """Return the inputs as a state, with zeros in padded slots, cut to the longest jet."""
    jets = fit_length(inputs, 1)
    valid_N1P = jets.valid_N1P
    return PaddedState(jets.features.masked_fill(~valid_N1P, 0), jets.points, valid_N1P)


def fit_length(inputs: Jets, minimum: int) -> JetInputs:
    """Pad jets to the longest, or to ``minimum`` slots where that is more.

    Of padded jets, only trailing slots are cut: a mask with holes keeps them.
    """
    return inputs.padded(max(inputs.used_length, minimum))


@final
@dataclass(frozen=True)
class NeighbourGraph:
    """The k nearest neighbours of each particle, in ascending distance. Values at edges of padding are arbitrary.

    ``edges_NCPk`` and ``vectors_N4Pk`` are None if the network does not use them.
    """

    index_NPk: Int[Tensor, "N P k"]
    null_N1Pk: Bool[Tensor, "N 1 P k"]  # edges from or to padding
    edges_NCPk: Float[Tensor, "N C P k"] | None
    vectors_N4Pk: Float[Tensor, "N 4 P k"] | None  # four-momenta of the neighbours

    def select(self, keep_N: Tensor, length: int) -> "NeighbourGraph":
        """Return the graph of some jets, cut to ``length`` slots; all later slots must be padding."""

        def cut(tensor: Tensor) -> Tensor:
            return tensor[:, :, :length][keep_N]

        # Only an edge to padding can point after the last slot.
        index_NPk = self.index_NPk[:, :length][keep_N].clamp(max=length - 1)
        edges, vectors = (None if tensor is None else cut(tensor) for tensor in (self.edges_NCPk, self.vectors_N4Pk))
        return NeighbourGraph(index_NPk, cut(self.null_N1Pk), edges, vectors)


@final
@dataclass(frozen=True)
class GraphState(State):
    """Padded jets with the features that the network has computed; values in padded slots are arbitrary but finite.

    ``minimum_length`` is the smallest number of slots P, which the neighbour search needs. ``graph`` is None before
    stage 0, and if each layer searches its own neighbours.
    """

    jets: JetInputs
    minimum_length: int
    graph: NeighbourGraph | None = None

    @property
    def particles(self) -> PaddedState:
        valid_N1P = self.jets.valid_N1P
        return PaddedState(self.jets.features.masked_fill(~valid_N1P, 0), self.jets.points, valid_N1P)

    def __len__(self) -> int:
        return len(self.jets)

    def select(self, keep_N: Tensor) -> Self:
        """Return the state of the jets that a mask or an index selects, cut to the longest of them."""
        jets = fit_length(self.jets.select(keep_N), self.minimum_length)
        graph = None if self.graph is None else self.graph.select(keep_N, jets.mask.shape[-1])
        return replace(self, jets=jets, graph=graph)

    def detach(self) -> Self:
        return self._with(self.jets.features.detach())

    def map(self, per_particle: nn.Module) -> Self:
        return self._with(self.particles.map(per_particle).features_NCP)

    def _with(self, features_NCP: Float[Tensor, "N C P"]) -> Self:
        return replace(self, jets=replace(self.jets, features=features_NCP))

    def pool(self, kind: Literal["mean", "max"]) -> Float[Tensor, "N C"]:
        return self.particles.pool(kind)

    def rows(self) -> Float[Tensor, "V C"]:
        return self.particles.rows()

    def counts(self) -> Int[Tensor, " N"]:
        return self.jets.particle_count_N


# Jets of similar multiplicity that are searched for neighbours at once; padding inside a group is wasted work.
_GROUP_SIZE = 32
# Particles to which a module is applied at once in inference, so that the memory for intermediate values does not grow
# with the batch. Fewer particles would fit into the cache, but joining the pieces takes the time that this saves.
_ROWS = 16_384


@final
@dataclass(frozen=True)
class JetGroup:
    """The rows of the particles of G jets of similar multiplicity, the longest of which has M particles."""

    row_GM: Int[Tensor, "G M"]  # arbitrary where not valid
    valid_GM: Bool[Tensor, "G M"]
    slot_R: Int[Tensor, " R"]  # which of the G·M slots are valid
    row_R: Int[Tensor, " R"]  # and the particles in these
    first_R: Int[Tensor, " R"]  # the first particle of their jets


@final
class JetLayout:
    """Which of V particles belong to which jet. Jets keep the order of the input; groups are sorted by multiplicity."""

    def __init__(self, count_N: Int[Tensor, " N"]) -> None:
        self.count_N = count_N
        self._jet_V: Tensor | None = None

    def __len__(self) -> int:
        return self.count_N.shape[0]

    @cached_property
    def offset_N(self) -> Int[Tensor, " N"]:
        """The first particle of each jet."""
        return self.count_N.cumsum(0) - self.count_N

    def jet_of(self, particles: int) -> Int[Tensor, " V"]:
        """Return the jet of each particle; the host knows how many there are, and does not wait for the device."""
        if self._jet_V is None:
            self._jet_V = torch.repeat_interleave(self.count_N, output_size=particles)
        return self._jet_V

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
    """Features of V particles, without padding. Neighbours are searched in the ``coordinates_VD``.

    ``length`` is the length P of the padded form of this batch. BatchNorm in training needs it, and a network that
    averages over P.
    """

    features_VC: Float[Tensor, "V C"]
    coordinates_VD: Float[Tensor, "V D"]
    layout: JetLayout
    length: int
    earlier: tuple[Float[Tensor, "V _"], ...] = ()  # outputs of earlier stages, if a fusion readout needs them

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
        jet_VC = layout.jet_of(len(row_VC))[:, None].expand_as(row_VC)
        zero_NC = row_VC.new_zeros(len(layout), row_VC.shape[1])
        return zero_NC.scatter_reduce(0, jet_VC, row_VC, "amax", include_self=False)
    particle_V = torch.arange(len(row_VC), device=row_VC.device)
    return embedding_bag(particle_V, row_VC, layout.offset_N, mode=kind)


def beside(pooled_NC: Float[Tensor, "N C"], globals_NG: Float[Tensor, "N G"] | None) -> Float[Tensor, "N C+G"]:
    """Return pooled features with the numbers of the jets beside them; None: the features alone."""
    return pooled_NC if globals_NG is None else torch.cat([pooled_NC, globals_NG.to(pooled_NC.dtype)], dim=1)


@final
@dataclass(frozen=True)
class GlobalsState(State):
    """The state of a network between two stages, with G numbers of each jet itself, which no stage changes.

    Exit heads see them beside the features of each particle, and beside the pooled features.
    """

    particles: State
    globals_NG: Float[Tensor, "N G"]

    def __len__(self) -> int:
        return len(self.particles)

    def select(self, keep_N: Tensor) -> Self:
        return replace(self, particles=self.particles.select(keep_N), globals_NG=self.globals_NG[keep_N])

    def detach(self) -> Self:
        return replace(self, particles=self.particles.detach())

    def map(self, per_particle: nn.Module) -> State:
        row_VC = self.rows()
        return PackedState(row_VC, row_VC[:, :0], JetLayout(self.counts()), 0).map(per_particle)

    def pool(self, kind: Literal["mean", "max"]) -> Float[Tensor, "N C"]:
        return beside(self.particles.pool(kind), self.globals_NG)

    def rows(self) -> Float[Tensor, "V C"]:
        row_VC = self.particles.rows()
        return beside(row_VC, self.globals_NG.repeat_interleave(self.counts(), dim=0, output_size=len(row_VC)))

    def counts(self) -> Int[Tensor, " N"]:
        return self.particles.counts()


@final
@dataclass(frozen=True)
class TokenState(State):
    """Tokens of padded jets; values in padded slots are arbitrary but finite.

    ``bias_NHTT`` is added to the attention of H heads among T tokens: the global token, if there is one, then the
    particles. None: no bias.
    """

    tokens_NPC: Float[Tensor, "N P C"]
    valid_NP: Bool[Tensor, "N P"]
    bias_NHTT: Float[Tensor, "N H T T"] | None = None
    global_N1C: Float[Tensor, "N 1 C"] | None = None

    def __len__(self) -> int:
        return self.tokens_NPC.shape[0]

    def select(self, keep_N: Tensor) -> Self:
        """Return the state of the jets that a mask or an index selects, cut to the longest of them."""
        valid_NP = self.valid_NP[keep_N]
        particles = max(1, used_slots(valid_NP))
        tokens = particles + (0 if self.global_N1C is None else 1)
        # Cut first, so that less is copied.
        bias = None if self.bias_NHTT is None else self.bias_NHTT[..., :tokens, :tokens][keep_N]
        return replace(
            self,
            tokens_NPC=self.tokens_NPC[:, :particles][keep_N],
            valid_NP=valid_NP[:, :particles],
            bias_NHTT=bias,
            global_N1C=None if self.global_N1C is None else self.global_N1C[keep_N],
        )

    def detach(self) -> Self:
        return replace(self, tokens_NPC=self.tokens_NPC.detach())

    def map(self, per_particle: nn.Module) -> Self:
        return replace(self, tokens_NPC=per_particle(self.tokens_NPC))

    def pool(self, kind: Literal["mean", "max"]) -> Float[Tensor, "N C"]:
        padding_NP1 = ~self.valid_NP[..., None]
        if kind == "mean":
            return self.tokens_NPC.masked_fill(padding_NP1, 0).sum(dim=1) / self.counts()[:, None].clamp(min=1)
        highest_NC = self.tokens_NPC.masked_fill(padding_NP1, -float("inf")).amax(dim=1)
        return highest_NC.masked_fill(padding_NP1.all(dim=1), 0)

    def rows(self) -> Float[Tensor, "V C"]:
        return self.tokens_NPC[self.valid_NP]

    def counts(self) -> Int[Tensor, " N"]:
        return self.valid_NP.sum(dim=1)
