"""The particle-flow network, against the same layers written for one jet at a time."""

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from phaze_ee.models.particle_flow_network import ParticleFlowNetwork
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.contracts.backbone import BackboneContract
from tests.jets import random_jets


class TestParticleFlowNetwork(BackboneContract):
    def backbone(self) -> ParticleFlowNetwork:
        torch.manual_seed(0)
        return ParticleFlowNetwork(7, 4, particle_dims=(8, 9, 12), jet_dims=(10, 11)).double().eval()

    def reference(self, inputs: JetInputs) -> Tensor:
        return torch.stack([self._one_jet(inputs.select(torch.tensor([jet]))) for jet in range(len(inputs))])

    def _one_jet(self, jet: JetInputs) -> Tensor:
        weights = self.backbone().state_dict()
        rows = jet.features[0].T[jet.valid_N1P[0, 0]]
        for stage in range(3):
            name = f"particle_layers.{stage}.0"
            rows = torch.relu(rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])
        answer = rows.sum(dim=0) / max(len(rows), 1)
        for layer in range(2):
            name = f"jet_layers.{layer}.0"
            answer = torch.relu(weights[f"{name}.weight"] @ answer + weights[f"{name}.bias"])
        logits: Tensor = weights["jet_layers.2.weight"] @ answer + weights["jet_layers.2.bias"]
        return logits


def test_macs_are_those_that_torch_counts() -> None:
    tagger = Tagger(TestParticleFlowNetwork().backbone(), ["input", 0, 1, 2]).double()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        counted = [counter.get_total_flops() // 2 for _ in tagger.walk(random_jets([20, 20]))]
    assert tagger.exit_macs(torch.tensor([20, 20])).sum(dim=1).tolist() == counted
