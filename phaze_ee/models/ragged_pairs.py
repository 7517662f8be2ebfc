"""The pairs of particles of each jet, without padding."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from phaze_ee.models.states import PackedState
from phaze_ee.shapes import Bool, Float, Int


@final
@dataclass(frozen=True, eq=False)
class RaggedPairs:
    """The n² ordered pairs of the particles of each jet, E of all jets, and the L of them that are embedded.

    The ordered pairs of a particle lie beside each other, in the order of the second one.

    Attributes:
        own_L: the first particle of each pair that is embedded, by its row.
        other_L: the second one.
        base_V: of each particle, the place of its ordered pair with a particle, less the row of that particle.
        lower_V: the same for pairs that are embedded, if pairs are embedded once.
        count_V: the number of particles of its jet.
        first_V: the first particle of its jet.
        ordered: E.
        symmetric: pairs are embedded once, with the later particle first; else all ordered pairs are, in their order.
        with_self: a particle's pair with itself is embedded too.
    """

    own_L: Int[Tensor, " L"]
    other_L: Int[Tensor, " L"]
    base_V: Int[Tensor, " V"]
    lower_V: Int[Tensor, " V"]
    count_V: Int[Tensor, " V"]
    first_V: Int[Tensor, " V"]
    ordered: int
    symmetric: bool
    with_self: bool

    @cached_property
    def both_2E(self) -> tuple[Int[Tensor, " E"], Int[Tensor, " E"]]:
        """The first and the second particle of each ordered pair."""
        if not self.symmetric:
            return self.own_L, self.other_L
        own_E, other_E, _ = _partners(self.count_V, self.first_V, self.ordered)
        return own_E, other_E

    @cached_property
    def place_E(self) -> Int[Tensor, " E"]:
        """The embedded pair of each ordered pair, L where there is none, if pairs are embedded once."""
        own_E, other_E = self.both_2E
        place_E = self.lower_V[torch.maximum(own_E, other_E)] + torch.minimum(own_E, other_E)
        return place_E if self.with_self else place_E.masked_fill(own_E == other_E, len(self.own_L))

    @cached_property
    def back_2L(self) -> Int[Tensor, "2 L"]:
        """The two ordered pairs of each embedded pair."""
        return torch.stack([self.base_V[self.own_L] + self.other_L, self.base_V[self.other_L] + self.own_L])

    def in_order(self, bias_HL: Float[Tensor, "H L"]) -> Float[Tensor, "H E"]:
        """Return the numbers of all ordered pairs, zero where a pair is not embedded."""
        if not self.symmetric:
            return bias_HL
        bias_HE: Tensor = _Ordered.apply(  # type: ignore[no-untyped-call]
            bias_HL, self.place_E, self.back_2L, self.own_L == self.other_L
        )
        return bias_HE


def ragged_pairs(state: PackedState, *, symmetric: bool, with_self: bool) -> RaggedPairs:
    """Return the pairs of each jet. The host waits once, for the number of pairs; not with one jet, where it knows.

    Args:
        state: the particles.
        symmetric: embed each pair once, with the later particle first.
        with_self: embed the pairs of a particle with itself too, if pairs are embedded once.
    """
    layout, particles = state.layout, len(state.coordinates_VD)
    count_N = layout.count_N
    jet_V = layout.jet_of(particles)
    count_V, first_V = count_N.index_select(0, jet_V), layout.offset_N.index_select(0, jet_V)
    ordered = particles**2 if len(count_N) == 1 else int(count_N.square().sum())
    base_V = _base(count_V, first_V)
    if not symmetric:
        own_L, other_L, lower_V = _partners(count_V, first_V, ordered)
        return RaggedPairs(own_L, other_L, base_V, lower_V, count_V, first_V, ordered, symmetric, True)
    embedded = (ordered + particles) // 2 if with_self else (ordered - particles) // 2
    earlier_V = torch.arange(particles, device=count_N.device) - first_V + int(with_self)
    own_L, other_L, lower_V = _partners(earlier_V, first_V, embedded)
    return RaggedPairs(own_L, other_L, base_V, lower_V, count_V, first_V, ordered, symmetric, with_self)


def _base(count_V: Tensor, first_V: Tensor) -> Int[Tensor, " V"]:
    """Return the place of the pair of each particle with another one, less the row of the other one."""
    return count_V.cumsum(0) - count_V - first_V


def _partners(count_V: Tensor, first_V: Tensor, total: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return pairs of each particle with the first ones of its jet, and their places as :func:`_base`."""
    row_V, base_V = torch.arange(len(count_V), device=count_V.device), _base(count_V, first_V)
    own_E = row_V.repeat_interleave(count_V, output_size=total)
    return own_E, torch.arange(total, device=row_V.device) - base_V[own_E], base_V


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
