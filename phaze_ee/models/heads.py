"""Exit heads: they turn the state between two stages into logits."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from phaze_ee.models.backbone import macs_per_row
from phaze_ee.models.states import JetLayout, pool_rows
from phaze_ee.registry import Registry
from phaze_ee.shapes import Float, Int
from phaze_ee.types import State


@final
@dataclass(frozen=True)
class HeadShape:
    """The size of a head: ``depth`` hidden layers of ``width`` channels. Linear heads have no hidden layers."""

    width: int = 64
    depth: int = 1


DEFAULT_SHAPE = HeadShape()


class ExitHead(nn.Module, ABC):
    """Turns the state of a batch into logits.

    Every head is constructed with the same arguments.

    Args:
        channels: channels C of the state before the head.
        num_classes: number of classes K.
        shape: width and depth from the configuration; a head may ignore them.
    """

    name: ClassVar[str]  # by which c.exit_head chooses it

    def __init__(self, channels: int, num_classes: int, shape: HeadShape = DEFAULT_SHAPE) -> None:
        super().__init__()
        self.channels = channels
        self.num_classes = num_classes
        self.shape = shape

    @abstractmethod
    def forward(self, state: State) -> Float[Tensor, "N K"]:
        """Return the logits of the jets of a state. A jet may have no particles."""

    @abstractmethod
    def macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        """Return the multiply-accumulates of the head, in matrix products, for jets with these numbers of particles."""


@final
class LinearExitHead(ExitHead):
    """Mean over the particles of a jet, then one linear layer."""

    name: ClassVar[str] = "linear"

    def __init__(self, channels: int, num_classes: int, shape: HeadShape = DEFAULT_SHAPE) -> None:
        super().__init__(channels, num_classes, shape)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, state: State) -> Float[Tensor, "N K"]:
        logits: Tensor = self.linear(state.pool("mean"))
        return logits

    def macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        return torch.full_like(particle_count_N, macs_per_row(self))


@final
class LinearMeanMaxExitHead(ExitHead):
    """Mean and maximum over the particles of a jet, then one linear layer on both."""

    name: ClassVar[str] = "linear_mean_max"

    def __init__(self, channels: int, num_classes: int, shape: HeadShape = DEFAULT_SHAPE) -> None:
        super().__init__(channels, num_classes, shape)
        self.linear = nn.Linear(2 * channels, num_classes)

    def forward(self, state: State) -> Float[Tensor, "N K"]:
        logits: Tensor = self.linear(mean_and_max(state))
        return logits

    def macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        return torch.full_like(particle_count_N, macs_per_row(self))


@final
class MlpExitHead(ExitHead):
    """Mean and maximum over the particles of a jet, then ``depth`` hidden layers of ``width`` on both."""

    name: ClassVar[str] = "mlp"

    def __init__(self, channels: int, num_classes: int, shape: HeadShape = DEFAULT_SHAPE) -> None:
        super().__init__(channels, num_classes, shape)
        self.per_jet = layers(2 * channels, shape, num_classes)

    def forward(self, state: State) -> Float[Tensor, "N K"]:
        logits: Tensor = self.per_jet(mean_and_max(state))
        return logits

    def macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        return torch.full_like(particle_count_N, macs_per_row(self))


@final
class AttentionExitHead(ExitHead):
    """Mean over the particles of a jet, weighted by attention, then ``depth`` hidden layers of ``width``.

    The weights are the softmax, over the real particles of the jet, of the product of each particle with one learned
    query (attention pooling, Lin et al. 2017, arXiv:1703.03130, with one hop and a linear score).
    """

    name: ClassVar[str] = "attention"

    def __init__(self, channels: int, num_classes: int, shape: HeadShape = DEFAULT_SHAPE) -> None:
        super().__init__(channels, num_classes, shape)
        self.query = nn.Linear(channels, 1, bias=False)  # a bias would cancel in the softmax
        self.per_jet = layers(channels, shape, num_classes)

    def forward(self, state: State) -> Float[Tensor, "N K"]:
        logits: Tensor = self.per_jet(self._weighted_mean(state.rows(), JetLayout(state.counts())))
        return logits

    def _weighted_mean(self, row_VC: Float[Tensor, "V C"], layout: JetLayout) -> Float[Tensor, "N C"]:
        score_V1 = self.query(row_VC)
        # Subtracted so that exp cannot overflow; it cancels, so no gradient goes through it.
        largest_N1 = pool_rows(score_V1.detach(), layout, "max")
        weight_V1 = (score_V1 - largest_N1.index_select(0, layout.jet_of(len(score_V1)))).exp()
        # Jets without particles have no weights. (A clamp to 1 has no gradient at 1, as jets of one particle, in torch
        # 2.14 and later.)
        sum_N1 = pool_rows(weight_V1, layout, "sum").masked_fill((layout.count_N == 0)[:, None], 1)
        return pool_rows(weight_V1 * row_VC, layout, "sum") / sum_N1

    def macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        return particle_count_N * macs_per_row(self.query) + macs_per_row(self.per_jet)


@final
class DeepSetsExitHead(ExitHead):
    """Layers on each particle, mean and maximum over the particles of a jet, layers on both.

    Deep Sets (arXiv:1703.06114); for jets, the particle-flow network (arXiv:1810.05165). Its layers act on the
    particles before the mean, so it works on the inputs too, whose mean contains little information. Both parts have
    ``depth`` hidden layers of ``width`` channels, and the pooled vector has ``width`` channels.
    """

    name: ClassVar[str] = "deep_sets"

    def __init__(self, channels: int, num_classes: int, shape: HeadShape = DEFAULT_SHAPE) -> None:
        super().__init__(channels, num_classes, shape)
        self.per_particle = layers(channels, shape, shape.width).append(nn.ReLU(inplace=True))
        self.per_jet = layers(2 * shape.width, shape, num_classes)

    def forward(self, state: State) -> Float[Tensor, "N K"]:
        logits: Tensor = self.per_jet(mean_and_max(state.map(self.per_particle)))
        return logits

    def macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        return particle_count_N * macs_per_row(self.per_particle) + macs_per_row(self.per_jet)


def mean_and_max(state: State) -> Float[Tensor, "N 2C"]:
    """Return mean and maximum over the particles of each jet, side by side."""
    return torch.cat([state.pool("mean"), state.pool("max")], dim=-1)


def layers(channels_in: int, shape: HeadShape, channels_out: int) -> nn.Sequential:
    """Return ``shape.depth`` hidden layers with ReLU, followed by a linear layer."""
    hidden: list[nn.Module] = []
    width = channels_in
    for _ in range(shape.depth):
        hidden += [nn.Linear(width, shape.width), nn.ReLU(inplace=True)]
        width = shape.width
    return nn.Sequential(*hidden, nn.Linear(width, channels_out))


EXIT_HEADS: Registry[type[ExitHead]] = Registry("exit_head", ExitHead)
