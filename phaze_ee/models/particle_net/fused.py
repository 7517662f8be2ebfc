"""A training step through an EdgeConv block on CUDA, with Triton kernels.

It computes what ``training.py`` computes with torch. One product makes all that the block needs of its particles: both
parts of the first edge layer, and the layer of the shortcut. Padded slots enter the statistics of edges as one more
particle for each jet, whose edges count as often as the jet has padded slots.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from weaver.nn.model.ParticleNet import EdgeConvBlock

from phaze_ee.kernels.availability import runs_kernels
from phaze_ee.models.fused_layers import (
    Layer,
    Norm,
    first_layer,
    layer_gradients,
    layers_from,
    next_layer,
    parameters_of,
)
from phaze_ee.models.particle_net.batch_norm import Statistics, update_running_statistics
from phaze_ee.models.precision import operand_type, sums_type
from phaze_ee.models.states import PackedState
from phaze_ee.shapes import Float, Int

if TYPE_CHECKING:
    from phaze_ee.kernels.block_end import Shortcut
    from phaze_ee.kernels.edge_forward import Edges

_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def fits_kernels(block: EdgeConvBlock, features_VC: Tensor) -> bool:
    """Return whether the kernels take a block: at most 256 channels, and normalisations that are in training.

    The operands of products must be in float32 or a half precision. Other blocks run in plain torch.
    """
    if not runs_kernels(features_VC) or operand_type(features_VC) not in _TYPES:
        return False
    from phaze_ee.kernels.edge_forward import MOST_CHANNELS

    widths = [int(convolution.out_channels) for convolution in block.convs]
    return max(widths) <= MOST_CHANNELS and all(norm.training for norm in _norms(block))


def fused_block(block: EdgeConvBlock, state: PackedState, neighbour_Vk: Int[Tensor, "V k"]) -> Float[Tensor, "V C"]:
    """Return the features after a block, and update the running statistics.

    Args:
        block: the block, for which :func:`fits_kernels` is true.
        state: the batch.
        neighbour_Vk: the neighbours of each particle; V is padding.
    """
    features_VC, norms = state.features_VC, _norms(block)
    zeros = len(state) * state.length - len(features_VC)
    plan = _Plan(tuple(norm.eps for norm in norms), block.sc is not None, len(features_VC), zeros)
    out_VC, *statistics = _FusedBlock.apply(  # type: ignore[no-untyped-call]
        linear(_Operands.apply(features_VC, max(1, len(state))), _weights(block)),  # type: ignore[no-untyped-call]
        None if plan.has_layer else features_VC,
        *_with_padding(state, neighbour_Vk, sums_type(operand_type(features_VC))),
        plan,
        *parameters_of(norms),
        *(convolution.weight.flatten(1) for convolution in block.convs[1:]),
    )
    for index, norm in enumerate(norms):
        update_running_statistics(norm, Statistics(*statistics[3 * index : 3 * index + 3]))
    out: Tensor = out_VC
    return out


@torch.no_grad()
def _with_padding(
    state: PackedState, neighbour_Vk: Int[Tensor, "V k"], kind: torch.dtype
) -> tuple[Int[Tensor, "U k"], Float[Tensor, " U"]]:
    """Return the neighbours of particles and then of one padded slot of each jet, and how often each counts."""
    from phaze_ee.kernels.padding import padding_edges

    particles, layout = len(neighbour_Vk), state.layout
    neighbour_Uk = neighbour_Vk.new_empty(particles + len(state), neighbour_Vk.shape[1])
    neighbour_Uk[:particles].copy_(neighbour_Vk)
    weight_U = state.features_VC.new_ones(len(neighbour_Uk), dtype=kind)
    out = neighbour_Uk[particles:], weight_U[particles:]
    padding_edges(state.coordinates_VD.detach(), layout.offset_N, layout.count_N, state.length, out)
    return neighbour_Uk, weight_U


def _norms(block: EdgeConvBlock) -> list[Any]:
    """Return the normalisations of the edge layers, and that of the shortcut if it has a layer."""
    return [*block.bns, *([] if block.sc is None else [block.sc_bn])]


def _weights(block: EdgeConvBlock) -> Float[Tensor, "M C"]:
    """Return the weights of all layers on particles: of the own part, of the part as a neighbour, of the shortcut."""
    own, difference = block.convs[0].weight.flatten(1).chunk(2, dim=1)
    return torch.cat([own - difference, difference, *([] if block.sc is None else [block.sc.weight.flatten(1)])])


class _Plan(NamedTuple):
    """What the kernels of a block need to know beside tensors.

    Attributes:
        epsilons: of all normalisations.
        has_layer: whether the shortcut has a layer.
        particles: the number of particles V.
        zeros: the number of padded slots, which are zero.
    """

    epsilons: tuple[float, ...]
    has_layer: bool
    particles: int
    zeros: int


@final
class _Operands(torch.autograd.Function):
    """The features as operands of products, and after them rows of zeros, for padding."""

    @staticmethod
    def forward(ctx: Any, features_VC: Tensor, rows: int) -> Tensor:
        particles, channels = features_VC.shape
        ctx.particles, ctx.kind = particles, features_VC.dtype
        out_UC = features_VC.new_empty(particles + rows, channels, dtype=operand_type(features_VC))
        out_UC[:particles].copy_(features_VC)
        out_UC[particles:].zero_()
        return out_UC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given_UC: Tensor) -> tuple[Tensor, None]:
        return given_UC[: ctx.particles].to(ctx.kind), None


@final
class _FusedBlock(torch.autograd.Function):
    """The features after a block, and of each normalisation the mean, biased variance and sum of weights."""

    @staticmethod
    def forward(
        ctx: Any,
        product_UM: Tensor,
        features_VC: Tensor | None,
        neighbour_Uk: Tensor,
        weight_U: Tensor,
        plan: _Plan,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        from phaze_ee.kernels.block_end import block_features

        edges = _edges(product_UM, len(parameters[0]), neighbour_Uk, weight_U)
        count = len(plan.epsilons)
        scales, matrices = [parameters[2 * index : 2 * index + 2] for index in range(count)], parameters[2 * count :]
        norms = [Norm(epsilon, "relu") for epsilon in plan.epsilons]
        layers = [first_layer(edges, None, norms[0], scales[0])]
        for matrix_CC, norm, own in zip(matrices, norms[1:], scales[1:], strict=False):
            layers.append(next_layer(edges, layers[-1], matrix_CC, norm, own))
        last = layers[-1]
        if plan.has_layer:
            layers.append(_shortcut_layer(product_UM, plan, scales))
        shortcut = _shortcut(features_VC, layers[-1])
        out_VC = block_features(edges, last.stored_EC, last.constant_6C, shortcut)
        found = [value for layer in layers for value in layer.statistics if value is not None]
        ctx.save_for_backward(
            product_UM, features_VC, *edges[2:], out_VC, *(value for layer in layers for value in layer.tensors())
        )
        ctx.plan, ctx.norms = plan, [layer.norm for layer in layers]
        ctx.mark_non_differentiable(*found)
        ctx.set_materialize_grads(False)  # of the statistics: zeros that nothing reads
        return out_VC, *found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out_VC: Tensor | None, *unused: Tensor) -> tuple[Tensor | None, ...]:
        from phaze_ee.kernels import edge_backward as kernels
        from phaze_ee.kernels.block_end import gradient_before_relu, shortcut_gradient

        if d_out_VC is None:
            return (None,) * len(ctx.needs_input_grad)
        product_UM, features_VC, neighbour_Uk, weight_U, out_VC, *saved = ctx.saved_tensors
        layers, particles = layers_from(saved, ctx.norms), len(out_VC)
        given_VC, shortcut_sums = gradient_before_relu(
            out_VC, d_out_VC.contiguous(), _shortcut(features_VC, layers[-1])
        )
        d_product_UM = torch.empty_like(product_UM)
        d_product_UM[particles:].zero_()
        d_shortcut: list[Tensor] = []
        if shortcut_sums is not None:
            layer, *d_shortcut = layers.pop().with_gradients(shortcut_sums)
            columns = d_product_UM.shape[1] - given_VC.shape[1]
            shortcut_gradient(given_VC, _shortcut(None, layer), d_product_UM[:particles, columns:])
        last, channels = layers[-1], len(layers[0].constant_6C[0])
        edges = _edges(product_UM, channels, neighbour_Uk, weight_U)
        sums_2C = kernels.last_gradient_sums(edges, last.stored_EC, last.constant_6C, given_VC)
        found = layer_gradients(edges, layers, given_VC, sums_2C, last=True)
        parts = d_product_UM[:particles, :channels], d_product_UM[:particles, channels : 2 * channels]
        kernels.first_layer_gradients(edges, found.first.constant_6C, found.given, parts, last=found.last)
        d_features_VC = None if features_VC is None else given_VC.to(features_VC.dtype)
        return d_product_UM, d_features_VC, None, None, None, *found.norms, *d_shortcut, *found.matrices


def _edges(product_UM: Tensor, channels: int, neighbour_Uk: Tensor, weight_U: Tensor) -> "Edges":
    from phaze_ee.kernels.edge_forward import Edges

    own_UC, other_UC = product_UM[:, :channels], product_UM[:, channels : 2 * channels]
    return Edges(own_UC, other_UC, neighbour_Uk, weight_U)


def _shortcut_layer(product_UM: Tensor, plan: _Plan, scales: Sequence[Sequence[Tensor]]) -> Layer:
    """Return the layer of the shortcut, whose statistics are those of padded slots too."""
    from phaze_ee.kernels.edge_forward import StoredRows

    value_VC = product_UM[: plan.particles, 2 * len(scales[0][0]) :]
    rows = StoredRows(plan.particles, product_UM)
    return first_layer(rows, value_VC, Norm(plan.epsilons[-1], "none"), scales[-1], plan.zeros)


def _shortcut(features_VC: Tensor | None, layer: Layer) -> "Shortcut":
    """Return the features as the shortcut, or a layer on them."""
    from phaze_ee.kernels.block_end import Shortcut

    if features_VC is not None:
        return Shortcut(features_VC.contiguous(), None)
    assert layer.stored_EC is not None
    return Shortcut(layer.stored_EC, layer.constant_6C)
