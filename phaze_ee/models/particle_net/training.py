"""Differentiable layers of ParticleNet on particles without padding, with the BatchNorm statistics of weaver.

``padding.py`` says which edges padded slots have; one extra row with a weight represents equal ones.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, pad
from weaver.nn.model.ParticleNet import EdgeConvBlock

from phaze_ee.models.particle_net.batch_norm import WeightedRows, normalise
from phaze_ee.models.particle_net.fused import fits_kernels, fused_block
from phaze_ee.models.particle_net.padding import padded_slots
from phaze_ee.models.precision import widened
from phaze_ee.models.states import PackedState
from phaze_ee.shapes import Float, Int


def edge_conv_training(
    block: EdgeConvBlock, state: PackedState, neighbour_Vk: Int[Tensor, "V k"]
) -> Float[Tensor, "V C"]:
    """Return the features after one block. A neighbour V in ``neighbour_Vk`` is padding, with zero features."""
    if fits_kernels(block, state.features_VC):
        return fused_block(block, state, neighbour_Vk)
    mean_VC = _mean_over_edges(block, state, neighbour_Vk)
    if block.sc is None:
        return (state.features_VC + mean_VC).relu()
    return (layer_training(block.sc, block.sc_bn, state.features_VC, state) + mean_VC).relu()


def _mean_over_edges(block: EdgeConvBlock, state: PackedState, neighbour_Vk: Tensor) -> Float[Tensor, "V C"]:
    own_weight, difference_weight = block.convs[0].weight.flatten(1).chunk(2, dim=1)
    own_VC = linear(state.features_VC, own_weight - difference_weight)
    neighbour_VC = pad(linear(state.features_VC, difference_weight), (0, 0, 0, 1))
    padding_R, weight_R = _padding_edges(state, block.k)
    edge_EC = _GatherAdd.apply(own_VC, neighbour_VC, neighbour_Vk)  # type: ignore[no-untyped-call]
    edges = WeightedRows(edge_EC, widened(neighbour_VC.index_select(0, padding_R)), weight_R)
    for index, (convolution, norm) in enumerate(zip(block.convs, block.bns, strict=True)):
        edges = normalise(edges if index == 0 else edges.linear(convolution.weight.flatten(1)), norm, relu=True)
    edge_VkC = edges.row_EC.view(*neighbour_Vk.shape, edges.row_EC.shape[1])
    # Under autocast edges have half precision, and particles that of the inputs.
    return edge_VkC.mean(dim=1, dtype=state.features_VC.dtype)


def layer_training(
    convolution: nn.Conv1d, norm: nn.modules.batchnorm._BatchNorm, row_VC: Tensor, state: PackedState
) -> Float[Tensor, "V C"]:
    """Apply a convolution and its BatchNorm to all particles, whose padded slots are zero."""
    padding = len(state) * state.length - len(row_VC)
    rows = WeightedRows(row_VC, row_VC.new_zeros(1, row_VC.shape[1]), row_VC.new_full((1,), padding))
    return normalise(rows.linear(convolution.weight.flatten(1)), norm).row_EC


def normalise_slots(
    norm: nn.modules.batchnorm._BatchNorm, features_NCP: Float[Tensor, "N C P"]
) -> Float[Tensor, "N C P"]:
    """Apply a BatchNorm to all slots of padded jets, real or not."""
    slot_SC = features_NCP.transpose(1, 2).flatten(0, 1)
    rows = WeightedRows(slot_SC, slot_SC.new_zeros(1, slot_SC.shape[1]), slot_SC.new_zeros(1))
    jets, channels, slots = features_NCP.shape
    return normalise(rows, norm).row_EC.view(jets, slots, channels).transpose(1, 2)


def _padding_edges(state: PackedState, k: int) -> tuple[Int[Tensor, " R"], Float[Tensor, " R"]]:
    """Return the distinct edges of padded slots, by their neighbour, and the number of times that each occurs."""
    neighbour_Nk, padding_N = padded_slots(state, k)
    seen_Nk = neighbour_Nk < len(state.features_VC)
    weight_R = padding_N[:, None].expand_as(neighbour_Nk)[seen_Nk]
    to_padding = k * (len(state) * state.length - len(state.features_VC)) - weight_R.sum()
    particle_R = pad(neighbour_Nk[seen_Nk], (0, 1), value=len(state.features_VC))
    return particle_R, torch.cat([weight_R, to_padding[None]]).to(state.features_VC.dtype)


class _GatherAdd(torch.autograd.Function):
    """own_i + neighbour_j for the k edges (i, j) of every particle i."""

    @staticmethod
    def forward(ctx: Any, own_VC: Tensor, neighbour_VC: Tensor, index_Vk: Tensor) -> Tensor:
        ctx.save_for_backward(index_Vk)
        ctx.rows = len(neighbour_VC)
        edge_EC = neighbour_VC.index_select(0, index_Vk.flatten())
        edge_EC.view(*index_Vk.shape, own_VC.shape[1]).add_(own_VC[:, None])
        return edge_EC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_EC: Tensor) -> tuple[Tensor, Tensor, None]:
        (index_Vk,) = ctx.saved_tensors
        own_VC = gradient_EC.view(*index_Vk.shape, gradient_EC.shape[1]).sum(dim=1)
        neighbour_VC = gradient_EC.new_zeros(ctx.rows, gradient_EC.shape[1])
        return own_VC, neighbour_VC.index_add_(0, index_Vk.flatten(), gradient_EC), None
