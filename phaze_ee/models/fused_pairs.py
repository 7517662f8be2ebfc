"""The bias of pairs of particles on CUDA, with Triton kernels, in inference and training.

In inference one kernel computes weaver's features of a pair and all layers, whose normalisations are folded into them.
In training the statistics of a normalisation are those of all pairs, so each layer is a kernel, forward and backward
(:mod:`phaze_ee.models.fused_layers`). Four-momenta get no gradient.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from weaver.nn.model.ParticleTransformer import pairwise_lv_fts_pp, to_ptrapphim

from phaze_ee.kernels.availability import runs_kernels
from phaze_ee.machine import process_count
from phaze_ee.models.folded_pairs import FoldedPairs, PairWeights
from phaze_ee.models.fused_layers import (
    Norm,
    first_layer,
    layer_gradients,
    layers_from,
    next_layer,
    parameters_of,
    plain_layer,
)
from phaze_ee.models.pair_layers import PairLayers, usual_layers
from phaze_ee.models.particle_net.batch_norm import Statistics, update_running_statistics
from phaze_ee.models.precision import operand_type
from phaze_ee.models.ragged_pairs import RaggedPairs
from phaze_ee.shapes import Float

if TYPE_CHECKING:
    from phaze_ee.kernels.pair_numbers import Momenta, Pairs

_log = logging.getLogger(__name__)

_TYPES = (torch.float32,)  # of four-momenta and parameters
_MOST_SYMMETRIC = 5  # features of a pair of type "pp" that do not depend on the order


def fits_kernels(embed: Any, momenta_V4: Tensor, count: int) -> bool:
    """Return whether the kernels take the pairs of a network.

    They take layers in weaver's order of at most 256 channels, in inference without gradients, or in training. Momenta
    must be in float32. Other pairs run in plain torch; where layers are too wide, a warning says so once.

    Args:
        embed: weaver's PairEmbed.
        momenta_V4: the four-momenta.
        count: of pairs that are embedded. One alone has no variance, which torch refuses in a training of one process.
    """
    if not runs_kernels(momenta_V4) or momenta_V4.dtype not in _TYPES or momenta_V4.requires_grad:
        return False
    from phaze_ee.kernels.edge_forward import MOST_CHANNELS

    layers = usual_layers(embed)
    if layers is None or not _narrow(layers.widest, MOST_CHANNELS):
        return False
    if embed.training:
        some = count > 1 or process_count() > 1
        return some and all(norm.training for norm in layers.all_norms)
    differentiates = torch.is_grad_enabled() and any(value.requires_grad for value in embed.parameters())
    return not differentiates and not any(norm.training for norm in layers.all_norms)


@cache
def _narrow(widest: int, most: int) -> bool:
    if widest <= most:
        return True
    _log.warning(
        "ParticleTransformer has pair layers of %d channels, and the kernels take at most %d: they run in plain torch",
        widest,
        most,
    )
    return False


def fused_bias(
    embed: Any,
    momenta_V4: Float[Tensor, "V 4"],
    pairs: RaggedPairs,
    features: Callable[[], Float[Tensor, "L F"]],
    folded: FoldedPairs,
) -> Float[Tensor, "H E"]:
    """Return the bias of the ordered pairs. In training, update the running statistics.

    Args:
        embed: weaver's PairEmbed, for which :func:`fits_kernels` is true.
        momenta_V4: the four-momenta.
        pairs: one at least, but for a training of several processes.
        features: returns the features of pairs, for kinds that the kernels do not compute.
        folded: the weights of inference.
    """
    from phaze_ee.kernels.pair_numbers import Pairs
    from phaze_ee.kernels.pair_training import pair_features

    layers = usual_layers(embed)
    assert layers is not None
    places = Pairs(pairs.own_L, pairs.other_L, pairs.base_V, pairs.ordered, pairs.symmetric, pairs.with_self)
    source: Any = _momenta(embed, momenta_V4)
    if source is None:
        source = features()
    kind = operand_type(momenta_V4)
    if not embed.training:
        return _inferred(source, places, layers, folded(embed, layers, kind))
    return _trained(layers, source if isinstance(source, Tensor) else pair_features(source, places), places, kind)


def _momenta(embed: Any, momenta_V4: Tensor) -> "Momenta | None":
    """Return what the kernels compute weaver's symmetric features for hadron colliders from; None for other kinds."""
    from phaze_ee.kernels.pair_numbers import Momenta

    features = embed.pairwise_lv_fts
    if features.func is not pairwise_lv_fts_pp or embed.pairwise_lv_dim > _MOST_SYMMETRIC:
        return None
    known_V7 = torch.cat([to_ptrapphim(momenta_V4, return_mass=False, eps=None), momenta_V4], dim=1)
    return Momenta(known_V7.T.contiguous(), int(embed.pairwise_lv_dim), float(features.keywords["eps"]))


@torch.no_grad()
def _inferred(source: "Momenta | Tensor", places: "Pairs", layers: PairLayers, weights: PairWeights) -> Tensor:
    from phaze_ee.kernels.pairs import pair_layers

    return pair_layers(source, places, *weights, layers.activation, last=layers.last)


def _trained(layers: PairLayers, features_LF: Tensor, places: "Pairs", kind: torch.dtype) -> Tensor:
    norms = [Norm(norm.eps, layers.activation) for norm in layers.norms]
    norms[-1] = norms[-1]._replace(activation=layers.last)
    if layers.input_norm is not None:
        norms.insert(0, Norm(layers.input_norm.eps, "none"))
    matrices = [convolution.weight.flatten(1) for convolution in layers.convolutions]
    biases = [convolution.bias for convolution in layers.convolutions if convolution.bias is not None]
    bias_HE, *found = _FusedPairs.apply(  # type: ignore[no-untyped-call]
        features_LF, places, kind, norms, *parameters_of(layers.all_norms), *matrices, *biases
    )
    before = [*([None] if layers.input_norm is not None else []), *layers.convolutions]
    for index, (norm, convolution) in enumerate(zip(layers.all_norms, before, strict=True)):
        mean_C, variance_C, total = found[3 * index : 3 * index + 3]
        if convolution is not None and convolution.bias is not None:  # it changes the mean alone
            mean_C = mean_C + convolution.bias.detach()
        update_running_statistics(norm, Statistics(mean_C, variance_C, total))
    bias: Tensor = bias_HE
    return bias


@final
class _FusedPairs(torch.autograd.Function):
    """The bias of ordered pairs, with the statistics of each normalisation: mean, biased variance and number of rows.

    The bias of a convolution has no effect before a normalisation: it is not added, and its gradient is zero.
    """

    @staticmethod
    def forward(
        ctx: Any, features_LF: Tensor, places: "Pairs", kind: torch.dtype, norms: list[Norm], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        from phaze_ee.kernels.edge_forward import StoredRows
        from phaze_ee.kernels.pair_training import ordered_pairs

        rows = StoredRows(len(features_LF), features_LF.new_empty(0, dtype=kind))
        count = 2 * len(norms)
        scales, matrices = parameters[:count], [value for value in parameters[count:] if value.ndim > 1]
        if len(norms) > len(matrices):
            layers = [first_layer(rows, features_LF, norms[0], scales[:2])]
        else:
            layers = [plain_layer(features_LF)]
        for index, matrix_CC in enumerate(matrices, len(norms) - len(matrices)):
            layers.append(next_layer(rows, layers[-1], matrix_CC, norms[index], scales[2 * index : 2 * index + 2]))
        last = layers[-1]
        assert last.stored_EC is not None
        bias_HE = ordered_pairs(last.stored_EC, places, last.constant_6C, last.norm.activation)
        found = [value for layer in layers for value in layer.statistics if value is not None]
        ctx.save_for_backward(*places[:3], *(value for layer in layers for value in layer.tensors()))
        ctx.places, ctx.norms = places[3:], [layer.norm for layer in layers]
        ctx.biases = [value.shape for value in parameters[count + len(matrices) :]]
        ctx.mark_non_differentiable(*found)
        ctx.set_materialize_grads(False)  # of the statistics: zeros that nothing reads
        return bias_HE, *found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_bias_HE: Tensor | None, *unused: Tensor) -> tuple[Tensor | None, ...]:
        from phaze_ee.kernels.edge_forward import StoredRows
        from phaze_ee.kernels.pair_numbers import Pairs
        from phaze_ee.kernels.pair_training import ordered_gradient

        if d_bias_HE is None:
            return (None,) * len(ctx.needs_input_grad)
        places, layers = Pairs(*ctx.saved_tensors[:3], *ctx.places), layers_from(ctx.saved_tensors[3:], ctx.norms)
        last = layers[-1]
        assert last.stored_EC is not None
        rows = StoredRows(len(last.stored_EC), last.stored_EC)
        given, sums_2H = ordered_gradient(
            d_bias_HE.contiguous(), last.stored_EC, places, last.constant_6C, last.norm.activation
        )
        found = layer_gradients(rows, layers, given, sums_2H, last=False)
        d_biases = [last.constant_6C.new_zeros(shape) for shape in ctx.biases]
        return None, None, None, None, *found.norms, *found.matrices, *d_biases
