"""The particle-flow network: layers on each particle, their mean over the jet, layers on that."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, final

import torch
from torch import Tensor, nn

from phaze_ee.models.backbone import Backbone, macs_per_row
from phaze_ee.models.states import PaddedState, beside, plain_state
from phaze_ee.shapes import Float, Int
from phaze_ee.types import Jets


@final
class ParticleFlowNetwork(Backbone[PaddedState]):
    """Deep Sets for jets (arXiv:1810.05165). The stages are the layers on single particles."""

    name = "PFN"
    pads_to_longest = True
    reads_points = False

    def __init__(
        self, input_dims: int, num_classes: int, particle_dims: Sequence[int], jet_dims: Sequence[int]
    ) -> None:
        super().__init__()
        self.input_channels, self.num_classes = input_dims, num_classes
        self.stage_channels, self.jet_dims = tuple(particle_dims), tuple(jet_dims)
        self.particle_layers = _layers(input_dims, *particle_dims)
        self.jet_layers = _layers(particle_dims[-1], *jet_dims).append(nn.Linear(jet_dims[-1], num_classes))
        for weight in (value for value in self.parameters() if value.dim() == 2):
            nn.init.kaiming_uniform_(weight, nonlinearity="relu")  # as in the paper

    @property
    def arguments(self) -> Mapping[str, Any]:
        dims = {"particle_dims": list(self.stage_channels), "jet_dims": list(self.jet_dims)}
        return {"input_dims": self.input_channels, "num_classes": self.num_classes, **dims}

    @property
    def readout_layers(self) -> nn.Module:
        return self.jet_layers

    def embed(self, inputs: Jets) -> PaddedState:
        return plain_state(inputs)

    def stage(self, index: int, state: PaddedState) -> PaddedState:
        return state.map(self.particle_layers[index])

    def readout(self, state: PaddedState, globals_NG: Tensor | None = None) -> Float[Tensor, "N K"]:
        logits: Tensor = self.jet_layers(beside(state.pool("mean"), globals_NG))
        return logits

    def stage_macs(self, index: int, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        return particle_count_N * macs_per_row(self.particle_layers[index])

    def readout_macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        return torch.full_like(particle_count_N, macs_per_row(self.jet_layers))


def _layers(*dims: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Sequential(nn.Linear(before, after), nn.ReLU()) for before, after in pairwise(dims)))
