"""An EdgeConv block on particles stored without padding, for inference."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from phaze_ee.models.crew import share
from phaze_ee.models.folding import FoldedEdgeConv


def edge_conv(
    block: FoldedEdgeConv, features_VC: Float[Tensor, "V C"], neighbour_Vk: Int[Tensor, "V k"]
) -> Float[Tensor, "V C_out"]:
    """Return the features after one block; ``neighbour_Vk`` = V stands for a neighbour whose features are zero."""
    count = len(features_VC)
    other_VC = features_VC.new_empty(count + 1, block.channels)
    block.other(features_VC, out=other_VC[:count])
    other_VC[count] = 0
    out_VC = features_VC.new_empty(count, block.outputs)
    # A GPU takes all at once.
    together = max(1, min(count, block.particles_together) if features_VC.device.type == "cpu" else count)

    def work(parts: Iterator[slice]) -> None:
        buffers = features_VC.new_empty(2, together * block.k * block.widest)
        for part in parts:
            _run_particles(block, features_VC[part], other_VC, neighbour_Vk[part], buffers, out_VC[part])

    share([slice(start, start + together) for start in range(0, count, together)], work)
    return out_VC


def _run_particles(
    block: FoldedEdgeConv, feature_PC: Tensor, other_VC: Tensor, index_Pk: Tensor, buffers: Tensor, out_PC: Tensor
) -> None:
    edge_count = index_Pk.numel()

    def buffer(number: int, channels: int) -> Tensor:
        return buffers[number % 2, : edge_count * channels].view(edge_count, channels)

    edge_EC = torch.index_select(other_VC, 0, index_Pk.flatten(), out=buffer(0, block.channels))
    edge_EC.view(*index_Pk.shape, -1).add_(block.own(feature_PC)[:, None]).relu_()
    for number, layer in enumerate(block.rectified, start=1):
        edge_EC = layer(edge_EC, buffer(number, layer.outputs))
    torch.sum(edge_EC.view(*index_Pk.shape, -1), dim=1, out=out_PC)
    out_PC.add_(feature_PC if block.shortcut is None else block.shortcut(feature_PC)).relu_()
