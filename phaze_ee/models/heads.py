"""Exit branches: what turns the state between two stages into an answer."""

from abc import ABC, abstractmethod
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

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
        return torch.full_like(particle_count_N, self.channels * self.num_classes)


@final
class DeepSetsExitHead(ExitHead):
    """Layers on each particle, mean and maximum over the particles of a jet, layers on both.

    Deep Sets (arXiv:1703.06114), for jets the particle-flow network (arXiv:1810.05165). It looks at the particles
    before they are summed up, and so can sit on the inputs, where their mean says little.
    """

    width: ClassVar[int] = 64

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__(channels, num_classes)
        self.per_particle = _two_layers(channels, self.width, self.width)
        self.per_particle.append(nn.ReLU(inplace=True))
        self.per_jet = _two_layers(2 * self.width, self.width, num_classes)

    def forward(self, state: State) -> Float[Tensor, "N K"]:
        particles = state.map(self.per_particle)
        logits: Tensor = self.per_jet(torch.cat([particles.pool("mean"), particles.pool("max")], dim=-1))
        return logits

    def macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        per_particle, per_jet = (
            sum(layer.weight.numel() for layer in part if isinstance(layer, nn.Linear))
            for part in (self.per_particle, self.per_jet)
        )
        return particle_count_N * per_particle + per_jet


def _two_layers(channels_in: int, hidden: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels_in, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels_out))


EXIT_HEADS: dict[str, type[ExitHead]] = {"linear": LinearExitHead, "deep_sets": DeepSetsExitHead}
