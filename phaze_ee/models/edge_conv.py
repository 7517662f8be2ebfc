"""An EdgeConv block on particles stored without padding, for inference."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from phaze_ee.models.folding import FoldedEdgeConv

# Particles whose edges are evaluated at once on a CPU: 64 · 16 edges of 256 channels in float32 take 1 MB, which stays
# in the cache of one core. Other devices take all at once.
_CHUNK = 64


def edge_conv(
    block: FoldedEdgeConv, features_VC: Float[Tensor, "V C"], neighbour_Vk: Int[Tensor, "V k"]
) -> Float[Tensor, "V C_out"]:
    """Return the features after one block; ``neighbour_Vk`` = V stands for a neighbour whose features are zero."""
    particle_VC = block.per_particle(features_VC)
    own_VC = particle_VC[:, : block.channels]
    neighbour_VC = pad(particle_VC[:, block.channels : 2 * block.channels], (0, 0, 0, 1))
    shortcut_VC = particle_VC[:, 2 * block.channels :]
    if shortcut_VC.shape[1] == 0:
        shortcut_VC = features_VC
    sum_VC = torch.empty_like(shortcut_VC)
    chunk = _CHUNK if features_VC.device.type == "cpu" else max(len(features_VC), 1)
    buffers = features_VC.new_empty(2, min(chunk, len(features_VC)) * block.k * block.widest)
    for start in range(0, len(features_VC), chunk):
        rows = slice(start, start + chunk)
        _sum_over_edges(block, own_VC[rows], neighbour_VC, neighbour_Vk[rows], buffers, sum_VC[rows])
    return sum_VC.add_(shortcut_VC).relu_()


def _sum_over_edges(
    block: FoldedEdgeConv, own_VC: Tensor, neighbour_VC: Tensor, index_Vk: Tensor, buffers: Tensor, out_VC: Tensor
) -> None:
    edge_count = index_Vk.numel()

    def buffer(number: int, channels: int) -> Tensor:
        return buffers[number % 2, : edge_count * channels].view(edge_count, channels)

    edge_EC = torch.index_select(neighbour_VC, 0, index_Vk.flatten(), out=buffer(0, block.channels))
    edge_EC.view(*index_Vk.shape, -1).add_(own_VC[:, None]).relu_()
    for number, layer in enumerate(block.per_edge, start=1):
        edge_EC = layer(edge_EC, out=buffer(number, len(layer.bias))).relu_()
    torch.sum(edge_EC.view(*index_Vk.shape, -1), dim=1, out=out_VC)
