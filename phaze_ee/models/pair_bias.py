"""The bias that weaver's PairEmbed makes of the pairs of particles of each jet, without padding."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from phaze_ee.machine import process_count
from phaze_ee.models.folded_pairs import FoldedPairs
from phaze_ee.models.fused_pairs import fits_kernels, fused_bias
from phaze_ee.models.ragged_pairs import RaggedPairs, ragged_pairs
from phaze_ee.models.states import PackedState
from phaze_ee.shapes import Float

# Pairs that are embedded at once in inference, so that the memory for intermediate values does not grow with the batch;
# on the CPU, they stay in the cache.
_PAIRS_CPU, _PAIRS_CUDA = 8_192, 1 << 20


def pair_bias(embed: Any, state: PackedState, folded: FoldedPairs) -> Float[Tensor, "H E"]:
    """Return the bias of the n² ordered pairs of each jet, jet after jet.

    With kernels (:mod:`phaze_ee.models.fused_pairs`) it has the type of the operands of products. In a training of
    several processes, one without pairs takes part too, because the others wait for its statistics and gradients.

    Args:
        embed: weaver's PairEmbed, without pair inputs.
        state: particles, whose four-momenta are the coordinates. In training, ``length`` is that of the padded form.
        folded: the weights of inference with kernels.
    """
    pairs = ragged_pairs(state, symmetric=bool(embed.is_symmetric), with_self=not embed.remove_self_pair)
    momenta_V4 = state.coordinates_VD
    if embed.training and not embed.sparse_eval[0]:
        return _as_padded(embed, state, pairs)
    if not len(pairs.own_L) and not (embed.training and process_count() > 1):
        return momenta_V4.new_zeros(embed.out_dim, pairs.ordered)
    if fits_kernels(embed, momenta_V4, len(pairs.own_L)):
        features = partial(_in_pieces, _features, embed, momenta_V4, pairs)
        return fused_bias(embed, momenta_V4, pairs, features, folded)
    return pairs.in_order(_in_pieces(_embedded, embed, momenta_V4, pairs).T)


def _in_pieces(work: Callable[..., Tensor], embed: Any, momenta_V4: Tensor, pairs: RaggedPairs) -> Float[Tensor, "L _"]:
    """Apply a function of four-momenta to the pairs that are embedded."""
    whole = embed.training or torch.is_grad_enabled()
    piece = len(pairs.own_L) if whole else _PAIRS_CPU if momenta_V4.device.type == "cpu" else _PAIRS_CUDA
    pieces = zip(torch.split(pairs.own_L, piece), torch.split(pairs.other_L, piece), strict=True)
    return torch.cat([work(embed, momenta_V4[own], momenta_V4[other], own == other) for own, other in pieces])


def _features(embed: Any, own_L4: Tensor, other_L4: Tensor, same_L: Tensor) -> Float[Tensor, "L F"]:
    features_LF: Tensor = embed.pairwise_lv_fts(own_L4, other_L4)
    if embed.remove_self_pair and not embed.is_symmetric and not embed.sparse_eval[int(not embed.training)]:
        features_LF = features_LF.masked_fill(same_L[:, None], 0)  # weaver does so where it embeds padding
    return features_LF


def _embedded(embed: Any, own_L4: Tensor, other_L4: Tensor, same_L: Tensor) -> Float[Tensor, "L H"]:
    features_LF = _features(embed, own_L4, other_L4, same_L)
    # A convolution takes no pairs of one batch, but a pair of no batch.
    features_BFL = features_LF.T[None] if len(features_LF) else features_LF[:, :, None]
    bias_BHL: Tensor = embed._embed_pairs(features_BFL, None)
    return bias_BHL.transpose(1, 2).flatten(0, 1)


def _as_padded(embed: Any, state: PackedState, pairs: RaggedPairs) -> Float[Tensor, "H E"]:
    """Return the bias of a network whose statistics in training are those of all slots, padded ones too."""
    slots, layout = state.length, state.layout
    slot_P = torch.arange(slots, device=layout.count_N.device)
    valid_NP = slot_P < layout.count_N[:, None]
    row_NP = (layout.offset_N[:, None] + slot_P).where(valid_NP, len(state.coordinates_VD))
    momenta_N4P = pad(state.coordinates_VD, (0, 0, 0, 1))[row_NP].transpose(1, 2)
    bias_HNPP: Tensor = embed(momenta_N4P, mask=valid_NP[:, None]).transpose(0, 1)
    jet_V = layout.jet_of(len(state.coordinates_VD))
    place_V = torch.arange(len(jet_V), device=jet_V.device) - layout.offset_N[jet_V]
    slot_V = jet_V * slots + place_V
    first_E, second_E = pairs.both_2E
    return bias_HNPP.flatten(1).index_select(1, slot_V[first_E] * slots + place_V[second_E])
