"""weaver's small networks for particles and secondary vertices, and jets for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from weaver.nn.model.ParticleNet import ParticleNetTagger
from weaver.nn.model.ParticleNeXt import ParticleNeXtTagger
from weaver.nn.model.ParticleTransformer import ParticleTransformerTagger

from phaze_ee.models.merged import MergingBackbone
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.particle_next import ParticleNeXt
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.types import JetInputs
from tests.jets import CHANNELS, CLASSES, random_jets

SV_CHANNELS = 5
SV_COUNTS = (2, 0, 1, 3, 0, 5)  # of the jets, in turn
_SCALES = [(2, 1), (1, 1)]
_NO_DROPOUT = {"dropout": 0.0, "attn_dropout": 0.0, "activation_dropout": 0.0}


@dataclass(frozen=True)
class Family:
    """A network of weaver: its backbone, its class and arguments, and the kinds of inputs that it takes."""

    backbone: type[MergingBackbone[Any]]
    make: Callable[..., nn.Module]
    arguments: dict[str, Any]
    takes: tuple[str, ...]

    def network(self, **changes: Any) -> nn.Module:
        """Return weaver's network, with weights and statistics that let every layer matter."""
        torch.manual_seed(0)
        network = self.make(**{**self.arguments, "num_classes": CLASSES, "trim": False, **changes}).double()
        normalisations: list[Any] = [module for module in network.modules() if hasattr(module, "running_mean")]
        for module in normalisations:
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
        for name, parameter in network.named_parameters():
            if name.endswith("gamma"):  # 1e-5 at first, which would hide what the layers do
                nn.init.uniform_(parameter, 0.5, 1.5)
        return network.eval()

    def staged(self, **changes: Any) -> MergingBackbone[Any]:
        """Return the backbone around :meth:`network`."""
        return self.backbone.from_weaver(self.network(**changes))

    def answer(self, network: nn.Module, inputs: JetInputs) -> Tensor:
        """Return the answer of weaver's network."""
        copy = inputs.map(torch.clone)  # weaver writes into its inputs
        parts = [copy, *copy.more.values()]
        logits: Tensor = network(*(getattr(part, kind) for part in parts for kind in self.takes))
        return logits


FAMILIES = {
    "ParticleNet": Family(
        ParticleNet,
        ParticleNetTagger,
        {
            "pf_features_dims": CHANNELS,
            "sv_features_dims": SV_CHANNELS,
            "conv_params": [(4, (8, 8)), (4, (8, 8)), (4, (12, 12))],
            "fc_params": [(16, 0.0)],
        },
        ("points", "features", "mask"),
    ),
    "ParticleNeXt": Family(
        ParticleNeXt,
        ParticleNeXtTagger,
        {
            "pf_features_dims": CHANNELS,
            "sv_features_dims": SV_CHANNELS,
            "node_dim": 6,
            "edge_dim": 5,
            "layer_params": [(6, 16, _SCALES, 16), (6, 24, _SCALES, 16)],
            "fc_params": [(16, 0.0)],
        },
        ("points", "features", "vectors", "mask"),
    ),
    "ParticleTransformer": Family(
        ParticleTransformer,
        ParticleTransformerTagger,
        {
            "pf_input_dim": CHANNELS,
            "sv_input_dim": SV_CHANNELS,
            "embed_dims": [12, 8],
            "pair_embed_dims": [6],
            "num_heads": 2,
            "num_layers": 2,
            "block_params": _NO_DROPOUT,
        },
        ("features", "vectors", "mask"),
    ),
}


def jets_with_vertices(
    counts: Sequence[int], vertices: Sequence[int] = SV_COUNTS, *, length: int | None = None, seed: int = 0
) -> JetInputs:
    """Jets with these numbers of particles, and secondary vertices ``sv``; both zero-padded to ``length``."""
    sv_counts = [vertices[index % len(vertices)] for index in range(len(counts))]
    sv_length = max([*sv_counts, 1]) if length is None else length
    sv = random_jets(sv_counts, length=sv_length, channels=SV_CHANNELS, seed=seed + 1000)
    return replace(random_jets(counts, length=length, seed=seed), more={"sv": sv})
