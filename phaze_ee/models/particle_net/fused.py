"""A training step through the edges of an EdgeConv block on CUDA, with Triton kernels.

It computes what ``training.py`` computes with torch. Padded slots enter the statistics as one more particle for each
jet, whose edges count as often as the jet has padded slots.
"""

from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad
from weaver.nn.model.ParticleNet import EdgeConvBlock

from phaze_ee.kernels.availability import runs_kernels
from phaze_ee.models.fused_layers import Norm, first_layer, layer_gradients, layers_from, next_layer, parameters_of
from phaze_ee.models.particle_net.batch_norm import Statistics, update_running_statistics
from phaze_ee.models.particle_net.padding import padded_slots
from phaze_ee.models.states import PackedState
from phaze_ee.shapes import Float, Int

_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def fits_kernels(block: EdgeConvBlock, own_VC: Tensor) -> bool:
    """Return whether the kernels take a block: at most 256 channels, and normalisations that are in training.

    Numbers of edges must be in float32 or a half precision. Other blocks run in plain torch.
    """
    if not runs_kernels(own_VC) or own_VC.dtype not in _TYPES:
        return False
    from phaze_ee.kernels.edge_forward import MOST_CHANNELS

    widths = [int(convolution.out_channels) for convolution in block.convs]
    return max(widths) <= MOST_CHANNELS and all(norm.training for norm in block.bns)


def fused_mean(
    block: EdgeConvBlock,
    own_VC: Float[Tensor, "V C"],
    other_SC: Float[Tensor, "V+1 C"],
    neighbour_Vk: Int[Tensor, "V k"],
    state: PackedState,
) -> Float[Tensor, "V C"]:
    """Return the mean over the edges of each particle after all edge layers, and update the running statistics.

    Args:
        block: the block, for which :func:`fits_kernels` is true.
        own_VC: the particle's own part of the first edge layer.
        other_SC: its part as a neighbour; row V is padding, and zero.
        neighbour_Vk: the neighbours of each particle; V is padding.
        state: the batch.
    """
    slot_Nk, padding_N = padded_slots(state, block.k)
    neighbour_Uk = torch.cat([neighbour_Vk, slot_Nk])
    weight_U = torch.cat([torch.ones_like(neighbour_Vk[:, 0]), padding_N])
    matrices = [convolution.weight.flatten(1) for convolution in block.convs[1:]]
    mean_VC, *statistics = _FusedEdges.apply(  # type: ignore[no-untyped-call]
        own_VC,
        other_SC,
        neighbour_Uk,
        weight_U,
        tuple(norm.eps for norm in block.bns),
        *parameters_of(block.bns),
        *matrices,
    )
    for index, norm in enumerate(block.bns):
        update_running_statistics(norm, Statistics(*statistics[3 * index : 3 * index + 3]))
    mean: Tensor = mean_VC
    return mean


@final
class _FusedEdges(torch.autograd.Function):
    """The mean over edges, with the statistics of each layer: mean, biased variance and sum of weights."""

    @staticmethod
    def forward(
        ctx: Any,
        own_VC: Tensor,
        other_SC: Tensor,
        neighbour_Uk: Tensor,
        weight_U: Tensor,
        epsilons: tuple[float, ...],
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        from phaze_ee.kernels import edge_forward as kernels

        particles, count = len(own_VC), len(epsilons)
        own_UC = pad(own_VC, (0, 0, 0, len(neighbour_Uk) - particles))
        sums = torch.promote_types(own_VC.dtype, torch.float32)
        edges = kernels.Edges(own_UC, other_SC.contiguous(), neighbour_Uk.contiguous(), weight_U.to(sums))
        norms = [Norm(epsilon, "relu") for epsilon in epsilons]
        layers = [first_layer(edges, None, norms[0], parameters[:2])]
        for index, matrix_CC in enumerate(parameters[2 * count :], 1):
            scale_shift = parameters[2 * index : 2 * index + 2]
            layers.append(next_layer(edges, layers[-1], matrix_CC, norms[index], scale_shift))
        mean_VC = kernels.mean_over_neighbours(edges, layers[-1].stored_EC, layers[-1].constant_6C, particles)
        found = [value for layer in layers for value in layer.statistics if value is not None]
        ctx.save_for_backward(*edges, *(value for layer in layers for value in layer.tensors()))
        ctx.norms, ctx.particles = norms, particles
        ctx.mark_non_differentiable(*found)
        ctx.set_materialize_grads(False)  # of the statistics: zeros that nothing reads
        return mean_VC, *found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mean_VC: Tensor | None, *unused: Tensor) -> tuple[Tensor | None, ...]:
        from phaze_ee.kernels import edge_backward as kernels
        from phaze_ee.kernels.edge_forward import Edges

        if d_mean_VC is None:
            return (None,) * len(ctx.needs_input_grad)
        edges, layers = Edges(*ctx.saved_tensors[:4]), layers_from(ctx.saved_tensors[4:], ctx.norms)
        given = d_mean_VC.to(edges.sums).contiguous()
        sums_2C = kernels.last_gradient_sums(edges, layers[-1].stored_EC, layers[-1].constant_6C, given)
        found = layer_gradients(edges, layers, given, sums_2C, last=True)
        d_own_VC, d_other_VC = kernels.first_layer_gradients(
            edges, found.first.constant_6C, found.given, ctx.particles, last=found.last
        )
        return d_own_VC, pad(d_other_VC, (0, 0, 0, 1)), None, None, None, *found.norms, *found.matrices
