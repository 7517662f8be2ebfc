"""The pairs of particles of each jet, without padding, and the bias that weaver's PairEmbed makes of them."""

from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from phaze_ee.models.states import PackedState
from phaze_ee.shapes import Bool, Float, Int

# Pairs that are embedded at once in inference, so that the memory for intermediate values does not grow with the batch;
# on the CPU, they stay in the cache.
_PAIRS_CPU, _PAIRS_CUDA = 8_192, 1 << 20


def pair_bias(embed: Any, state: PackedState) -> Float[Tensor, "H E"]:
    """Return the bias of the n² ordered pairs of each jet, jet after jet.

    Args:
        embed: weaver's PairEmbed, without pair inputs.
        state: particles, whose four-momenta are the coordinates. In training, ``length`` is that of the padded form.
    """
    pairs = ragged_pairs(state, symmetric=bool(embed.is_symmetric), with_self=not embed.remove_self_pair)
    if embed.training and not embed.sparse_eval[0]:
        return _as_padded(embed, state, pairs)
    momenta_V4 = state.coordinates_VD
    own_L, other_L = pairs.own_L, pairs.other_L
    if not len(own_L):
        return momenta_V4.new_zeros(embed.out_dim, len(pairs.first_E))
    whole = embed.training or torch.is_grad_enabled()
    piece = len(own_L) if whole else _PAIRS_CPU if momenta_V4.device.type == "cpu" else _PAIRS_CUDA
    pieces = zip(torch.split(own_L, piece), torch.split(other_L, piece), strict=True)
    bias_HL = torch.cat(
        [_embedded(embed, momenta_V4[own], momenta_V4[other], own == other) for own, other in pieces], 1
    )
    return pairs.ordered(bias_HL)


def _embedded(embed: Any, own_L4: Tensor, other_L4: Tensor, same_L: Tensor) -> Float[Tensor, "H L"]:
    features_LF: Tensor = embed.pairwise_lv_fts(own_L4, other_L4)
    if embed.remove_self_pair and not embed.is_symmetric and not embed.sparse_eval[int(not embed.training)]:
        features_LF = features_LF.masked_fill(same_L[:, None], 0)  # weaver does so where it embeds padding
    bias_1HL: Tensor = embed._embed_pairs(features_LF.T[None], None)
    return bias_1HL[0]


def _as_padded(embed: Any, state: PackedState, pairs: "RaggedPairs") -> Float[Tensor, "H E"]:
    """Return the bias of a network whose statistics in training are those of all slots, padded ones too."""
    slots, layout = state.length, state.layout
    slot_P = torch.arange(slots, device=layout.count_N.device)
    valid_NP = slot_P < layout.count_N[:, None]
    row_NP = (layout.offset_N[:, None] + slot_P).where(valid_NP, len(state.coordinates_VD))
    momenta_N4P = pad(state.coordinates_VD, (0, 0, 0, 1))[row_NP].transpose(1, 2)
    bias_HNPP: Tensor = embed(momenta_N4P, mask=valid_NP[:, None]).transpose(0, 1)
    jet_V = torch.repeat_interleave(layout.count_N, output_size=len(state.coordinates_VD))
    place_V = torch.arange(len(jet_V), device=jet_V.device) - layout.offset_N[jet_V]
    slot_V = jet_V * slots + place_V
    return bias_HNPP.flatten(1).index_select(1, slot_V[pairs.first_E] * slots + place_V[pairs.second_E])


class RaggedPairs(NamedTuple):
    """The n² ordered pairs of the particles of each jet, and the L of them that are embedded.

    Attributes:
        first_E: the first particle of each ordered pair, by its row.
        second_E: the second one.
        own_L: the first particle of each pair that is embedded.
        other_L: the second one.
        place_E: the embedded pair of each ordered pair, L where there is none; None: all are embedded, in this order.
        back_2L: the two ordered pairs of each embedded pair.
    """

    first_E: Int[Tensor, " E"]
    second_E: Int[Tensor, " E"]
    own_L: Int[Tensor, " L"]
    other_L: Int[Tensor, " L"]
    place_E: Int[Tensor, " E"] | None
    back_2L: Int[Tensor, "2 L"] | None

    def ordered(self, bias_HL: Float[Tensor, "H L"]) -> Float[Tensor, "H E"]:
        """Return the numbers of all ordered pairs, zero where a pair is not embedded."""
        if self.place_E is None:
            return bias_HL
        bias_HE: Tensor = _Ordered.apply(  # type: ignore[no-untyped-call]
            bias_HL, self.place_E, self.back_2L, self.own_L == self.other_L
        )
        return bias_HE


def ragged_pairs(state: PackedState, *, symmetric: bool, with_self: bool) -> RaggedPairs:
    """Return the pairs of each jet. The host waits once, for the number of pairs.

    Args:
        state: the particles.
        symmetric: embed each pair once, with the later particle first.
        with_self: embed the pairs of a particle with itself too, if pairs are embedded once.
    """
    layout, particles = state.layout, len(state.coordinates_VD)
    count_N, row_V = layout.count_N, torch.arange(particles, device=layout.count_N.device)
    count_V, first_V = _per_particle(count_N, count_N, particles), _per_particle(layout.offset_N, count_N, particles)
    squares = int(count_N.square().sum())
    own_E, other_E, start_V = _partners(row_V, count_V, first_V, squares)
    if not symmetric:
        return RaggedPairs(own_E, other_E, own_E, other_E, None, None)
    place_V = row_V - first_V
    embedded = (squares + particles) // 2 if with_self else (squares - particles) // 2
    own_L, other_L, start_lower_V = _partners(row_V, place_V + int(with_self), first_V, embedded)
    later_E, earlier_E = torch.maximum(own_E, other_E), torch.minimum(own_E, other_E)
    place_E = start_lower_V[later_E] + place_V[earlier_E]
    if not with_self:
        place_E = place_E.masked_fill(own_E == other_E, embedded)
    back_2L = torch.stack([start_V[own_L] + place_V[other_L], start_V[other_L] + place_V[own_L]])
    return RaggedPairs(own_E, other_E, own_L, other_L, place_E, back_2L)


def _per_particle(value_N: Tensor, count_N: Tensor, particles: int) -> Tensor:
    return value_N.repeat_interleave(count_N, output_size=particles)


def _partners(row_V: Tensor, count_V: Tensor, first_V: Tensor, total: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return pairs of each particle with the first ones of its jet, and where those of each particle begin."""
    start_V = count_V.cumsum(0) - count_V
    own_E = row_V.repeat_interleave(count_V, output_size=total)
    other_E = (first_V - start_V)[own_E] + torch.arange(total, device=row_V.device)
    return own_E, other_E, start_V


@final
class _Ordered(torch.autograd.Function):
    """The numbers of pairs in both orders. The gradient is gathered: nothing is added atomically."""

    @staticmethod
    def forward(
        ctx: Any, bias_HL: Tensor, place_E: Tensor, back_2L: Int[Tensor, "2 L"], same_L: Bool[Tensor, " L"]
    ) -> Tensor:
        ctx.save_for_backward(back_2L, same_L)
        return pad(bias_HL, (0, 1)).index_select(1, place_E)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_bias_HE: Tensor) -> tuple[Tensor | None, ...]:
        back_2L, same_L = ctx.saved_tensors
        mirrored_HL = d_bias_HE.index_select(1, back_2L[1]).masked_fill(same_L, 0)
        return d_bias_HE.index_select(1, back_2L[0]) + mirrored_HL, None, None, None
