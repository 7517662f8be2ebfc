"""The state of a batch whose jets are padded to one length."""

from dataclasses import dataclass, fields, replace
from typing import Literal, Self, final

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from phaze_ee.types import JetInputs, Jets, State


@final
@dataclass(frozen=True)
class PaddedState(State):
    """Features of padded jets, zero in padded slots; ``coordinates`` are what neighbours are searched in."""

    features_NCP: Float[Tensor, "N C P"]
    coordinates_NDP: Float[Tensor, "N D P"]
    valid_N1P: Bool[Tensor, "N 1 P"]
    earlier: tuple[Float[Tensor, "N _ P"], ...] = ()  # outputs of earlier stages, where a fusion readout needs them

    def __len__(self) -> int:
        return self.features_NCP.shape[0]

    def select(self, keep_N: Tensor) -> Self:
        tensors = {item.name: getattr(self, item.name)[keep_N] for item in fields(self) if item.name != "earlier"}
        return replace(self, **tensors, earlier=tuple(output[keep_N] for output in self.earlier))

    def detach(self) -> Self:
        return replace(self, features_NCP=self.features_NCP.detach())

    def map(self, per_particle: nn.Module) -> Self:
        mapped = per_particle(self.features_NCP.transpose(1, 2)).transpose(1, 2)
        return replace(self, features_NCP=mapped.masked_fill(~self.valid_N1P, 0))

    def pool(self, kind: Literal["mean", "max"]) -> Float[Tensor, "N C"]:
        if kind == "mean":
            return self.features_NCP.sum(dim=-1) / self.valid_N1P.sum(dim=-1).clamp(min=1)
        empty_N1 = ~self.valid_N1P.any(dim=-1)
        return self.features_NCP.masked_fill(~self.valid_N1P, -float("inf")).amax(dim=-1).masked_fill(empty_N1, 0)

    def rows(self) -> Float[Tensor, "V C"]:
        return self.features_NCP.transpose(1, 2)[self.valid_N1P[:, 0]]

    def counts(self) -> Int[Tensor, " N"]:
        return self.valid_N1P.sum(dim=(1, 2))


def plain_state(inputs: Jets) -> PaddedState:
    """Return the inputs themselves as a state, zero in padded slots, cut to the longest jet."""
    jets = fit_length(inputs.padded(), 1)
    valid_N1P = jets.valid_N1P
    return PaddedState(jets.features.masked_fill(~valid_N1P, 0), jets.points, valid_N1P)


def fit_length(inputs: JetInputs, minimum: int) -> JetInputs:
    """Cut slots that are padding in every jet, and add padding where fewer than ``minimum`` slots are left.

    Only trailing slots are cut, so particles keep their order; a mask with holes keeps them.
    """
    wanted = max(inputs.used_length, minimum)
    return inputs.map(lambda tensor: pad(tensor[..., :wanted], (0, max(0, wanted - tensor.shape[-1]))))
