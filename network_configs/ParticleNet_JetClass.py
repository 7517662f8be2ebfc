"""ParticleNet for weaver and for PHAZE-EE, which puts its exits on the network that get_model returns."""

from typing import Any

import torch
from torch import Tensor, nn
from weaver.nn.model.ParticleNet import ParticleNet


class ParticleNetWrapper(nn.Module):
    """Takes the inputs in the order of the data configuration, which has vectors that ParticleNet does not use."""

    def __init__(self, input_names: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__()
        self.input_names = input_names
        self.mod = ParticleNet(**kwargs)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return logits (N, K)."""
        by_kind = {name.rsplit("_", 1)[-1]: tensor for name, tensor in zip(self.input_names, inputs, strict=True)}
        logits: Tensor = self.mod(by_kind["points"], by_kind["features"], by_kind["mask"])
        return logits


def get_model(data_config: Any, **kwargs: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network and what weaver needs to export it to ONNX."""
    names = tuple(data_config.input_names)
    features = next(name for name in names if name.endswith("features"))
    defaults: dict[str, Any] = {
        "input_dims": len(data_config.input_dicts[features]),
        "num_classes": len(data_config.label_value),
        "conv_params": [(16, (64, 64, 64)), (16, (128, 128, 128)), (16, (256, 256, 256))],
        "fc_params": [(256, 0.1)],
        "use_fusion": False,
        "use_fts_bn": True,
        "use_counts": True,
        "for_inference": False,
        "use_amp": False,
    }
    model = ParticleNetWrapper(names, **{**defaults, **{key: kwargs[key] for key in defaults if key in kwargs}})
    return model, {
        "input_names": list(names),
        "input_shapes": {name: (1, *data_config.input_shapes[name][1:]) for name in names},
        "output_names": ["softmax"],
        "dynamic_axes": {name: {0: "N", 2: "n_particles"} for name in names} | {"softmax": {0: "N"}},
    }


def get_loss(data_config: Any, **kwargs: Any) -> nn.Module:
    """Return the loss of the full model."""
    return torch.nn.CrossEntropyLoss()
