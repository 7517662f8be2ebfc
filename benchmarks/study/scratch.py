"""Networks that are trained from scratch together with their exits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Training:
    """How networks are trained at a size of the study.

    Attributes:
        backbone: the network of the questions that train one kind only.
        epochs: of each training.
        batch_size: in jets.
    """

    backbone: str
    epochs: int
    batch_size: int


@dataclass(frozen=True)
class Network:
    """A network and the number of its stages.

    Attributes:
        stages: how many there are.
        options: of the configuration.
    """

    stages: int
    options: Mapping[str, Any] = field(default_factory=dict)


TRAININGS = {
    "small": Training("ParticleNet_small", epochs=10, batch_size=128),
    "middle": Training("ParticleNet_small", epochs=4, batch_size=128),
    "full": Training("ParticleNet_middle", epochs=15, batch_size=256),
}
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


def network_options(size: str, backbone: str | None = None) -> dict[str, Any]:
    """Return the options of a training at a size of the study, of the usual network or of another one."""
    training = TRAININGS[size]
    network = BACKBONES[backbone or training.backbone]
    return {**network.options, "epochs": training.epochs, "batch_size": training.batch_size, "lr": 0.005}
