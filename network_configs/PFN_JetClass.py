"""A particle-flow network (Deep Sets) for weaver and for PHAZE-EE, which adds exits to the network of get_model."""

from typing import Any

import torch
from torch import nn

from phaze_ee.models.network_file import WeaverNetwork, export_information, input_channels, network_keywords
from phaze_ee.models.particle_flow_network import ParticleFlowNetwork


def get_model(data_config: Any, **kwargs: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network, and the information with which weaver exports it to ONNX."""
    # The widths of arXiv:1810.05165.
    defaults = {
        "input_dims": input_channels(data_config),
        "num_classes": len(data_config.label_value),
        "particle_dims": (100, 100, 256),
        "jet_dims": (100, 100, 100),
    }
    backbone = ParticleFlowNetwork(**network_keywords(defaults, kwargs))
    model = WeaverNetwork(backbone, data_config, softmax=kwargs.get("for_inference", False))
    return model, export_information(data_config)


def get_loss(data_config: Any, **kwargs: Any) -> nn.Module:
    """Return the loss of the full model."""
    return torch.nn.CrossEntropyLoss()
