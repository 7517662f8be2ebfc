"""The state of a transformer without padding: the particles of each jet, and the bias of their pairs."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Self, final

import torch
from torch import Tensor, nn

from phaze_ee.models.ragged_attention import spans
from phaze_ee.models.states import JetLayout, PackedState
from phaze_ee.shapes import Float, Int
from phaze_ee.slots import ragged_rows
from phaze_ee.types import State


@final
class TokenLayout:
    """Where the particles of each jet are, and where they are if one more token comes before those of each jet."""

    def __init__(self, layout: JetLayout, particles: int) -> None:
        self.layout = layout
        self.particles = particles

    @cached_property
    def jet_V(self) -> Int[Tensor, " V"]:
        """The jet of each particle."""
        return self.layout.jet_of(self.particles)

    @cached_property
    def span_6N(self) -> Int[Tensor, "6 N"]:
        """For the attention of the particles of a jet to each other."""
        count_N = self.layout.count_N
        return spans(count_N, count_N, count_N)

    @cached_property
    def led_span_6N(self) -> Int[Tensor, "6 N"]:
        """The same with a token before the particles of each jet."""
        count_N = self.layout.count_N
        return spans(count_N + 1, count_N + 1, count_N)

    @cached_property
    def class_span_6N(self) -> Int[Tensor, "6 N"]:
        """For the attention of that token alone to itself and to the particles of its jet."""
        count_N = self.layout.count_N
        return spans(torch.ones_like(count_N), count_N + 1, count_N)

    @cached_property
    def leader_N(self) -> Int[Tensor, " N"]:
        """The row of that token."""
        return self.layout.offset_N + torch.arange(len(self.layout), device=self.layout.count_N.device)

    @cached_property
    def follower_V(self) -> Int[Tensor, " V"]:
        """The row of each particle, after one such token for its own and each earlier jet."""
        return torch.arange(self.particles, device=self.jet_V.device) + self.jet_V + 1

    @cached_property
    def _origin_T(self) -> Int[Tensor, " T"]:
        rows = torch.cat([self.leader_N, self.follower_V])
        return torch.empty_like(rows).scatter_(0, rows, torch.arange(len(rows), device=rows.device))

    @cached_property
    def led_jet_T(self) -> Int[Tensor, " T"]:
        """The jet of each token, with one before the particles of each jet."""
        tokens = self.particles + len(self.layout)
        return torch.repeat_interleave(self.layout.count_N + 1, output_size=tokens)

    def led(self, first_NC: Float[Tensor, "N C"], row_VC: Float[Tensor, "V C"]) -> Float[Tensor, "T C"]:
        """Return the particles with a token before those of each jet."""
        return torch.cat([first_NC, row_VC]).index_select(0, self._origin_T)


@final
@dataclass(frozen=True)
class PackedTokens(State):
    """Tokens of V particles, without padding.

    ``bias_HE`` is added to the attention of H heads in the n² ordered pairs of the particles of each jet, jet after
    jet; None: no bias. ``global_NC`` is the global token, if there is one.
    """

    particles: PackedState
    layout: TokenLayout
    bias_HE: Float[Tensor, "H E"] | None = None
    global_NC: Float[Tensor, "N C"] | None = None

    def __len__(self) -> int:
        return len(self.particles)

    def select(self, keep_N: Tensor) -> Self:
        bias = None if self.bias_HE is None else self.bias_HE.index_select(1, self._pairs_of(keep_N))
        first = None if self.global_NC is None else self.global_NC[keep_N]
        particles = self.particles.select(keep_N)
        layout = TokenLayout(particles.layout, len(particles.features_VC))
        return replace(self, particles=particles, layout=layout, bias_HE=bias, global_NC=first)

    def _pairs_of(self, keep_N: Tensor) -> Int[Tensor, " E"]:
        pair_N = self.particles.layout.count_N.square()
        return ragged_rows((pair_N.cumsum(0) - pair_N)[keep_N], pair_N[keep_N])

    def with_rows(self, row_VC: Float[Tensor, "V C"], global_NC: Float[Tensor, "N C"] | None) -> Self:
        """Return the state with other tokens of the same particles."""
        return replace(self, particles=replace(self.particles, features_VC=row_VC), global_NC=global_NC)

    def detach(self) -> Self:
        return replace(self, particles=self.particles.detach())

    def map(self, per_particle: nn.Module) -> Self:
        return replace(self, particles=self.particles.map(per_particle))

    def pool(self, kind: Literal["mean", "max"]) -> Float[Tensor, "N C"]:
        return self.particles.pool(kind)

    def rows(self) -> Float[Tensor, "V C"]:
        return self.particles.rows()

    def counts(self) -> Int[Tensor, " N"]:
        return self.particles.counts()
