"""An EdgeConv block on particles stored without padding, for inference."""

from collections.abc import Iterator
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from phaze_ee.models.behind_relu import behind_relu
from phaze_ee.models.compiled.edges import add_edges, add_pairs
from phaze_ee.models.crew import share
from phaze_ee.models.folding import FoldedEdgeConv


class ParticleParts(NamedTuple):
    """What the layers on particles of a block give for V particles."""

    edge_SC: Float[Tensor, "V+1 C_all"]  # the particle's own part of an edge, its part as a neighbour; row V is zero
    shortcut_SC: Float[Tensor, "S C_any"]
    shortcut_column: int  # the first column of the shortcut


def edge_conv(
    block: FoldedEdgeConv, features_VC: Float[Tensor, "V C"], neighbour_Vk: Int[Tensor, "V k"]
) -> Float[Tensor, "V C_out"]:
    """Return the features after one block; ``neighbour_Vk`` = V stands for a neighbour whose features are zero."""
    evaluate = in_parts if features_VC.device.type == "cpu" else at_once
    return evaluate(block, particle_parts(block, features_VC), neighbour_Vk)


def particle_parts(block: FoldedEdgeConv, features_VC: Float[Tensor, "V C"]) -> ParticleParts:
    """Apply the layers on particles."""
    count = features_VC.shape[0]
    edge_SC = features_VC.new_empty(count + 1, block.per_particle.outputs)
    block.per_particle(features_VC, out=edge_SC[:count])
    edge_SC[count] = 0
    if block.has_shortcut_layer:
        return ParticleParts(edge_SC, edge_SC, 2 * block.channels)
    return ParticleParts(edge_SC, features_VC.contiguous(), 0)


def in_parts(block: FoldedEdgeConv, parts: ParticleParts, neighbour_Vk: Int[Tensor, "V k"]) -> Float[Tensor, "V C_out"]:
    """Return the features after the block, made of some particles after the other, whose edges stay in the cache."""
    count, k = neighbour_Vk.shape
    pieces = -(-count // block.particles_together)
    together = -(-count // max(pieces, 1)) or 1  # all alike, because threads share the particles of a single jet
    out_VC = parts.edge_SC.new_empty(count, block.outputs)
    neighbours, out = neighbour_Vk.numpy(), out_VC.numpy()
    edge_parts, shortcut = parts.edge_SC.numpy(), parts.shortcut_SC.numpy()

    def work(firsts: Iterator[int]) -> None:
        memory_EC = out_VC.new_empty(together * k, block.channels)
        for first in firsts:
            index_Pk = neighbours[first : first + together]
            edge_EC = memory_EC[: index_Pk.size]
            add_pairs(edge_parts, index_Pk, first, edge_EC.numpy())
            add_edges(shortcut, parts.shortcut_column, first, behind_relu(block.per_edge, edge_EC).numpy(), k, out)

    share(range(0, count, together), work)
    return out_VC


def at_once(block: FoldedEdgeConv, parts: ParticleParts, neighbour_Vk: Int[Tensor, "V k"]) -> Float[Tensor, "V C_out"]:
    """Return the same, made of all particles together, as is best on a GPU."""
    count, column = neighbour_Vk.shape[0], parts.shortcut_column
    own_VC, other_SC = parts.edge_SC[:count, : block.channels], parts.edge_SC[:, block.channels : 2 * block.channels]
    edge_EC = other_SC.index_select(0, neighbour_Vk.flatten())
    edge_EC.view(*neighbour_Vk.shape, block.channels).add_(own_VC[:, None])
    sum_VC = behind_relu(block.per_edge, edge_EC).relu_().view(*neighbour_Vk.shape, block.outputs).sum(dim=1)
    return sum_VC.add_(parts.shortcut_SC[:count, column : column + block.outputs]).relu_()
