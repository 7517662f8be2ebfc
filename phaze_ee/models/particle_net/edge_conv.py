"""An EdgeConv block on particles stored without padding, for inference.

Products with zeros are left out. After the ReLU of an edge layer, 20 to 30 % of the numbers of a trained network are
positive. Rows that store only these are the bags of ``torch.nn.functional.embedding_bag``, which FBGEMM multiplies
1.3 to 2 times as fast as a dense product at that share (``benchmarks/sparse.py``). The product is dense if more
numbers are positive, in float64, on a GPU, and where torch has no FBGEMM (ARM). The MACs of a network count products
with zeros too.
"""

import threading
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from phaze_ee.compiled import has_numba
from phaze_ee.kernels.availability import runs_kernels
from phaze_ee.models.particle_net.folding import Affine, FoldedEdgeConv
from phaze_ee.models.precision import operand_type
from phaze_ee.models.threads import share
from phaze_ee.shapes import Float, Int

# Sparse products are faster if less than a fraction _EVEN · N / (N + _OVERHEAD) of the numbers is positive, for a layer
# with N outputs. Measured by benchmarks/sparse.py on one core of an AMD EPYC with AVX-512.
_EVEN = 0.52
_OVERHEAD = 64


class _Memory(threading.local):
    """The positive numbers of some rows, in memory that each thread keeps."""

    def __init__(self) -> None:
        self.hold(0, 0)

    def hold(self, numbers: int, rows: int) -> None:
        self.column_S = torch.empty(numbers, dtype=torch.int32)
        self.value_S = torch.empty(numbers)
        self.start_R = torch.empty(rows + 1, dtype=torch.int32)
        self.arrays = self.column_S.numpy(), self.value_S.numpy(), self.start_R.numpy()

    def compress(self, row_RC: Tensor, share: float) -> int:
        """Store the positive numbers of rows and return their count; −1, if more than this fraction is positive."""
        from phaze_ee.models.particle_net.loops import compress

        rows, columns = row_RC.shape
        if self.value_S.shape[0] < rows * (columns + 1) or self.start_R.shape[0] < rows + 1:
            self.hold(rows * (columns + 1), rows)
        return compress(row_RC.numpy(), share, *self.arrays)


_memory = _Memory()


def sparse_layers(layers: tuple[Affine, ...], row_RC: Float[Tensor, "R C_in"]) -> Float[Tensor, "R C_out"]:
    """Apply layers one after the other, with a ReLU before each.

    Args:
        layers: the layers.
        row_RC: the input of the first layer. It may be overwritten.
    """
    for layer in layers:
        used = _memory.compress(row_RC, share_that_pays(layer)) if layer.has_fast_bags and has_numba() else -1
        row_RC = layer(row_RC.relu_()) if used < 0 else _bags(layer, used, row_RC.shape[0])
    return row_RC


def _bags(layer: Affine, used: int, rows: int) -> Tensor:
    sum_RC: Tensor = embedding_bag(
        _memory.column_S[:used],
        layer.weight_and_bias,
        _memory.start_R[: rows + 1],
        mode="sum",
        per_sample_weights=_memory.value_S[:used],
        include_last_offset=True,
    )
    return sum_RC


def share_that_pays(layer: Affine) -> float:
    """Return the fraction of positive numbers below which a sparse product is faster."""
    return _EVEN * layer.outputs / (layer.outputs + _OVERHEAD)


class ParticleParts(NamedTuple):
    """The outputs of the layers on particles of a block, for V particles."""

    edge_SC: Float[Tensor, "V+1 C_all"]  # the particle's own part of an edge, its part as a neighbour; row V is zero
    shortcut_SC: Float[Tensor, "S C_any"]
    shortcut_column: int  # the first column of the shortcut


def edge_conv(
    block: FoldedEdgeConv, features_VC: Float[Tensor, "V C"], neighbour_Vk: Int[Tensor, "V k"]
) -> Float[Tensor, "V C_out"]:
    """Return the features after one block. A neighbour V in ``neighbour_Vk`` is padding, with zero features."""
    evaluate = edge_conv_gpu
    if runs_kernels(features_VC) and block.fits_kernel:
        evaluate = edge_conv_kernel
    elif features_VC.device.type == "cpu" and has_numba():
        evaluate = edge_conv_cpu
    # The kernel adds in float32, but need not read what a product in half precision has rounded in more bits.
    stored = operand_type(features_VC) if evaluate is edge_conv_kernel else features_VC.dtype
    return evaluate(block, particle_parts(block, features_VC, stored), neighbour_Vk)


def particle_parts(
    block: FoldedEdgeConv, features_VC: Float[Tensor, "V C"], stored: torch.dtype | None = None
) -> ParticleParts:
    """Apply the layers on particles; keep the result in the type of the features (default), or in that of operands."""
    count, stored = features_VC.shape[0], stored or features_VC.dtype
    edge_SC = features_VC.new_empty(count + 1, block.per_particle.outputs, dtype=stored)
    if operand_type(features_VC) == stored:
        block.per_particle(features_VC, out=edge_SC[:count])
    else:
        edge_SC[:count] = block.per_particle(features_VC)
    edge_SC[count].zero_()
    if block.has_shortcut_layer:
        return ParticleParts(edge_SC, edge_SC, 2 * block.channels)
    return ParticleParts(edge_SC, features_VC.contiguous(), 0)


def edge_conv_cpu(
    block: FoldedEdgeConv, parts: ParticleParts, neighbour_Vk: Int[Tensor, "V k"]
) -> Float[Tensor, "V C_out"]:
    """Return the features after the block, computed for a few particles at a time, so that edges stay in the cache."""
    from phaze_ee.models.particle_net.loops import add_edges, add_pairs

    count, k = neighbour_Vk.shape
    pieces = -(-count // block.particles_together)
    together = -(-count // max(pieces, 1)) or 1  # of equal size, because threads share the particles of a single jet
    out_VC = parts.edge_SC.new_empty(count, block.outputs)
    neighbours, out = neighbour_Vk.numpy(), out_VC.numpy()
    edge_parts, shortcut = parts.edge_SC.numpy(), parts.shortcut_SC.numpy()

    def work(firsts: Iterator[int]) -> None:
        memory_EC = out_VC.new_empty(together * k, block.channels)
        for first in firsts:
            index_Pk = neighbours[first : first + together]
            edge_EC = memory_EC[: index_Pk.size]
            add_pairs(edge_parts, index_Pk, first, edge_EC.numpy())
            add_edges(shortcut, parts.shortcut_column, first, sparse_layers(block.per_edge, edge_EC).numpy(), k, out)

    share(range(0, count, together), work)
    return out_VC


def edge_conv_kernel(
    block: FoldedEdgeConv, parts: ParticleParts, neighbour_Vk: Int[Tensor, "V k"]
) -> Float[Tensor, "V C_out"]:
    """Return the features after the block, from one kernel that keeps edges out of the memory of the card."""
    from phaze_ee.kernels.edge_conv import edge_conv as kernel

    layers = block.kernel_layers(operand_type(parts.edge_SC))
    return kernel(layers, *parts, neighbour_Vk, tf32=torch.backends.cuda.matmul.allow_tf32)


def edge_conv_gpu(
    block: FoldedEdgeConv, parts: ParticleParts, neighbour_Vk: Int[Tensor, "V k"]
) -> Float[Tensor, "V C_out"]:
    """Return the features after the block, computed for all particles at once, for blocks without a kernel."""
    count, column = neighbour_Vk.shape[0], parts.shortcut_column
    own_VC, other_SC = parts.edge_SC[:count, : block.channels], parts.edge_SC[:, block.channels : 2 * block.channels]
    edge_EC = other_SC.index_select(0, neighbour_Vk.flatten())
    edge_EC.view(*neighbour_Vk.shape, block.channels).add_(own_VC[:, None])
    sum_VC = sparse_layers(block.per_edge, edge_EC).relu_().view(*neighbour_Vk.shape, block.outputs).sum(dim=1)
    return sum_VC.add_(parts.shortcut_SC[:count, column : column + block.outputs]).relu_()
