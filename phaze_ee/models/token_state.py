"""The state of a batch on its way through a transformer: one token per particle, and what attention needs."""

from dataclasses import dataclass, replace
from typing import Literal, Self, final

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from phaze_ee.types import State, used_slots


@final
@dataclass(frozen=True)
class TokenState(State):
    """Tokens of padded jets; what stands in padded slots is arbitrary but finite.

    ``bias_NHTT`` is added to the attention of H heads among T tokens: the particles, behind a global token where the
    network has one. None: no bias.
    """

    tokens_NPC: Float[Tensor, "N P C"]
    valid_NP: Bool[Tensor, "N P"]
    bias_NHTT: Float[Tensor, "N H T T"] | None = None
    global_N1C: Float[Tensor, "N 1 C"] | None = None

    def __len__(self) -> int:
        return self.tokens_NPC.shape[0]

    def select(self, keep_N: Tensor) -> Self:
        """Return the state of the jets that a mask or an index names, with the padding cut to the longest of them."""
        valid_NP = self.valid_NP[keep_N]
        particles = max(1, used_slots(valid_NP))
        tokens = particles + (0 if self.global_N1C is None else 1)
        # Cut first, so that less is copied.
        bias = None if self.bias_NHTT is None else self.bias_NHTT[..., :tokens, :tokens][keep_N]
        return replace(
            self,
            tokens_NPC=self.tokens_NPC[:, :particles][keep_N],
            valid_NP=valid_NP[:, :particles],
            bias_NHTT=bias,
            global_N1C=None if self.global_N1C is None else self.global_N1C[keep_N],
        )

    def detach(self) -> Self:
        return replace(self, tokens_NPC=self.tokens_NPC.detach())

    def map(self, per_particle: nn.Module) -> Self:
        return replace(self, tokens_NPC=per_particle(self.tokens_NPC))

    def pool(self, kind: Literal["mean", "max"]) -> Float[Tensor, "N C"]:
        padding_NP1 = ~self.valid_NP[..., None]
        if kind == "mean":
            return self.tokens_NPC.masked_fill(padding_NP1, 0).sum(dim=1) / self.counts()[:, None].clamp(min=1)
        highest_NC = self.tokens_NPC.masked_fill(padding_NP1, -float("inf")).amax(dim=1)
        return highest_NC.masked_fill(padding_NP1.all(dim=1), 0)

    def rows(self) -> Float[Tensor, "V C"]:
        return self.tokens_NPC[self.valid_NP]

    def counts(self) -> Int[Tensor, " N"]:
        return self.valid_NP.sum(dim=1)
