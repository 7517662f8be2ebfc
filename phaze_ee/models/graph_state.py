"""The state of a batch on its way through a network on a graph: particles, and the edges to their neighbours."""

from dataclasses import dataclass, replace
from typing import Literal, Self, final

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from phaze_ee.models.padded import PaddedState, fit_length
from phaze_ee.types import JetInputs, State


@final
@dataclass(frozen=True)
class NeighbourGraph:
    """The k nearest neighbours of each particle, in ascending distance; what belongs to edges of padding is arbitrary.

    ``edges`` and ``vectors`` are None where the network does not make them.
    """

    index_NPk: Int[Tensor, "N P k"]
    null_N1Pk: Bool[Tensor, "N 1 P k"]  # edges from or to padding
    edges_NCPk: Float[Tensor, "N C P k"] | None
    vectors_N4Pk: Float[Tensor, "N 4 P k"] | None  # four-momenta of the neighbours

    def select(self, keep_N: Tensor, length: int) -> "NeighbourGraph":
        """Return the graph of some jets, with so many slots, of which all those after them must be padding."""

        def cut(tensor: Tensor) -> Tensor:
            return tensor[:, :, :length][keep_N]

        # Only an edge to padding can lead behind the last slot.
        index_NPk = self.index_NPk[:, :length][keep_N].clamp(max=length - 1)
        edges, vectors = (None if tensor is None else cut(tensor) for tensor in (self.edges_NCPk, self.vectors_N4Pk))
        return NeighbourGraph(index_NPk, cut(self.null_N1Pk), edges, vectors)


@final
@dataclass(frozen=True)
class GraphState(State):
    """Jets whose features are what the network has made of them; what stands in padded slots is arbitrary but finite.

    ``minimum_length`` is the number of slots P that the network needs for its neighbours. ``graph`` is None before
    stage 0, and where each layer searches neighbours of its own.
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
        """Return the state of the jets that a mask or an index names, with the padding cut to the longest of them."""
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
