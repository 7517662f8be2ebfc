"""Networks that are trained from scratch together with their exits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EPOCHS = {"small": 10, "middle": 5, "full": 15}
BATCH = {"small": 128, "middle": 128, "full": 256}


@dataclass(frozen=True)
class Network:
    """A network and the number of its stages.

    Attributes:
        stages: how many there are.
        options: of the configuration.
    """

    stages: int
    options: Mapping[str, Any] = field(default_factory=dict)


BACKBONES = {
    "ParticleNet_middle": Network(3, {"conv_params": [(8, (32, 32, 32)), (8, (64, 64, 64)), (8, (128, 128, 128))]}),
    "ParticleNet_small": Network(3, {"conv_params": [(8, (16, 16)), (8, (32, 32)), (8, (64, 64))]}),
    "ParT_small": Network(
        8,
        {
            "model_name": "ParticleTransformer",
            "network_options": {"embed_dims": [32, 64, 32], "pair_embed_dims": [16, 16], "num_heads": 4},
        },
    ),
}


def network_options(backbone: str, size: str) -> dict[str, Any]:
    """Return the options of a training of this network at a size of the study."""
    return {**BACKBONES[backbone].options, "epochs": EPOCHS[size], "batch_size": BATCH[size], "lr": 0.005}
