"""Exit branches: what turns the state between two stages into an answer."""

from abc import ABC, abstractmethod
from typing import final

from jaxtyping import Float, Int
from torch import Tensor, full_like, nn

from phaze_ee.types import State


class ExitHead(nn.Module, ABC):
    """An exit branch. Constructors take (channels of the state, number of classes)."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.channels = channels
        self.num_classes = num_classes

    @abstractmethod
    def forward(self, state: State) -> Float[Tensor, "N K"]: ...

    @abstractmethod
    def macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        """Return the multiply-accumulates of this head for jets of so many particles."""


@final
class LinearExitHead(ExitHead):
    """Mean over the particles of a jet, then one linear layer."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__(channels, num_classes)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, state: State) -> Float[Tensor, "N K"]:
        logits: Tensor = self.linear(state.pool("mean"))
        return logits

    def macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        return full_like(particle_count_N, self.channels * self.num_classes)


EXIT_HEADS: dict[str, type[ExitHead]] = {"linear": LinearExitHead}
