"""ParticleNet for weaver and for PHAZE-EE, which adds exits to the network that get_model returns."""

from typing import Any

import torch
from torch import nn
from weaver.nn.model.ParticleNet import ParticleNet

from phaze_ee.models.network_file import WeaverNetwork, export_information, input_channels, network_keywords


def get_model(data_config: Any, **kwargs: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network, and the information with which weaver exports it to ONNX."""
    defaults: dict[str, Any] = {
        "input_dims": input_channels(data_config),
        "num_classes": len(data_config.label_value),
        "conv_params": [(16, (64, 64, 64)), (16, (128, 128, 128)), (16, (256, 256, 256))],
        "fc_params": [(256, 0.1)],
        "use_fusion": False,
        "use_fts_bn": True,
        "use_counts": True,
        "for_inference": False,
        "use_amp": False,
    }
    network = ParticleNet(**network_keywords(defaults, kwargs))
    return WeaverNetwork(network, data_config, takes=("points", "features", "mask")), export_information(data_config)


def get_loss(data_config: Any, **kwargs: Any) -> nn.Module:
    """Return the loss of the full model."""
    return torch.nn.CrossEntropyLoss()
