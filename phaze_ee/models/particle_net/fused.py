"""A training step through the edges of an EdgeConv block on CUDA, with Triton kernels.

It computes what ``training.py`` computes with torch. Padded slots enter the statistics as one more particle for each
jet, whose edges count as often as the jet has padded slots.
"""

from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad
from weaver.nn.model.ParticleNet import EdgeConvBlock

from phaze_ee.kernels.availability import runs_kernels
from phaze_ee.models.particle_net.batch_norm import (
    Statistics,
    gradient_factors,
    of_all_processes,
    update_running_statistics,
)
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
    parameters = [value for norm in block.bns for value in (norm.weight, norm.bias)]
    matrices = [convolution.weight.flatten(1) for convolution in block.convs[1:]]
    mean_VC, *statistics = _FusedEdges.apply(  # type: ignore[no-untyped-call]
        own_VC, other_SC, neighbour_Uk, weight_U, tuple(norm.eps for norm in block.bns), *parameters, *matrices
    )
    for index, norm in enumerate(block.bns):
        update_running_statistics(norm, Statistics(*statistics[3 * index : 3 * index + 3]))
    mean: Tensor = mean_VC
    return mean


class _Layer(NamedTuple):
    """A layer of edges: its normalisation, and its numbers (None for the first layer, which is gathered)."""

    epsilon: float
    scale_C: Tensor
    statistics: Statistics
    constant_6C: Float[Tensor, "6 C"]  # scale, shift; in the backward pass direct factor, slope, offset; mean
    stored_EC: Tensor | None
    matrix_CC: Tensor | None  # in the type of the operands

    def with_gradients(self, sums_2C: Float[Tensor, "2 C"]) -> tuple["_Layer", Tensor, Tensor]:
        """Return the layer with the factors of its gradient, and the gradients of scale and shift.

        Args:
            sums_2C: the sums over edges of the gradient after the normalisation, and of it times z − μ.
        """
        d_shift_C = sums_2C[0]
        d_scale_C = sums_2C[1] * torch.rsqrt(self.statistics.variance_C + self.epsilon)
        factors = gradient_factors(self.statistics, self.scale_C, torch.stack([d_scale_C, d_shift_C]), self.epsilon)
        scale_shift_2C, mean_1C = self.constant_6C[:2], self.constant_6C[5:]
        return (
            self._replace(constant_6C=torch.cat([scale_shift_2C, torch.stack(factors), mean_1C])),
            d_scale_C,
            d_shift_C,
        )


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
        matrices = [None, *(matrix.to(own_VC.dtype).contiguous() for matrix in parameters[2 * count :])]
        layers: list[_Layer] = []
        for index, (epsilon, matrix_CC) in enumerate(zip(epsilons, matrices, strict=True)):
            if matrix_CC is None:
                stored_EC, tiles = None, kernels.first_statistics(edges)
            else:
                before = layers[-1]
                stored_EC, tiles = kernels.next_layer(edges, before.stored_EC, before.constant_6C, matrix_CC)
            scale_C, shift_C = parameters[2 * index : 2 * index + 2]
            statistics = of_all_processes(Statistics(*tiles.joined()))
            constant_6C = _constants(statistics, scale_C, shift_C, epsilon)
            layers.append(_Layer(epsilon, scale_C, statistics, constant_6C, stored_EC, matrix_CC))
        mean_VC = kernels.mean_over_neighbours(edges, layers[-1].stored_EC, layers[-1].constant_6C, particles)
        found = [value for layer in layers for value in layer.statistics]
        ctx.save_for_backward(*edges, *(value for layer in layers for value in _tensors(layer)))
        ctx.epsilons, ctx.particles = epsilons, particles
        ctx.mark_non_differentiable(*found)
        return mean_VC, *found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mean_VC: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        from phaze_ee.kernels import edge_backward as kernels
        from phaze_ee.kernels.edge_forward import Edges

        saved = list(ctx.saved_tensors)
        edges = Edges(*saved[:4])
        layers = [_layer(epsilon, saved[4 + 7 * i : 11 + 7 * i]) for i, epsilon in enumerate(ctx.epsilons)]
        given = d_mean_VC.to(edges.sums).contiguous()
        sums_2C = kernels.last_gradient_sums(edges, layers[-1].stored_EC, layers[-1].constant_6C, given)
        d_norms: list[Tensor] = []
        d_matrices: list[Tensor] = []
        last = True
        here, d_scale_C, d_shift_C = layers[-1].with_gradients(sums_2C)
        d_norms[:0] = [d_scale_C, d_shift_C]
        for before in reversed(layers[:-1]):
            assert here.stored_EC is not None
            assert here.matrix_CC is not None
            stored, constants = (before.stored_EC, here.stored_EC), (before.constant_6C, here.constant_6C)
            d_matrices.insert(0, kernels.weight_gradient(edges, stored, constants, given, last=last))
            given, sums_2C = kernels.layer_before(edges, stored, constants, here.matrix_CC, given, last=last)
            last = False
            here, d_scale_C, d_shift_C = before.with_gradients(sums_2C)
            d_norms[:0] = [d_scale_C, d_shift_C]
        d_own_VC, d_other_VC = kernels.first_layer_gradients(edges, here.constant_6C, given, ctx.particles, last=last)
        return d_own_VC, pad(d_other_VC, (0, 0, 0, 1)), None, None, None, *d_norms, *d_matrices


def _constants(statistics: Statistics, scale_C: Tensor, shift_C: Tensor, epsilon: float) -> Float[Tensor, "6 C"]:
    mean_C, variance_C, _ = statistics
    direct_C = scale_C * torch.rsqrt(variance_C + epsilon)
    zero_C = torch.zeros_like(mean_C)
    return torch.stack([direct_C, shift_C - mean_C * direct_C, zero_C, zero_C, zero_C, mean_C])


def _tensors(layer: _Layer) -> list[Tensor | None]:
    return [layer.scale_C, *layer.statistics, layer.constant_6C, layer.stored_EC, layer.matrix_CC]


def _layer(epsilon: float, saved: list[Any]) -> _Layer:
    scale_C, mean_C, variance_C, total, *others = saved
    return _Layer(epsilon, scale_C, Statistics(mean_C, variance_C, total), *others)
