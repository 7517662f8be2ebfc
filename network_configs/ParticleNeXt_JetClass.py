"""ParticleNeXt for weaver and for PHAZE-EE, which adds exits to the network that get_model returns."""

from typing import Any

import torch
from torch import nn
from weaver.nn.model.ParticleNeXt import ParticleNeXt

from phaze_ee.models.network_file import WeaverNetwork, export_information, input_channels, network_keywords


def get_model(data_config: Any, **kwargs: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network, and the information with which weaver exports it to ONNX."""
    scales = [(8, 1), (4, 1), (2, 1), (1, 1)]
    defaults: dict[str, Any] = {
        "feature_input_dim": input_channels(data_config),
        "num_classes": len(data_config.label_value),
        "node_dim": 32,
        "edge_dim": 8,
        "use_node_bn": True,
        "use_edge_bn": True,
        "layer_params": [(32, 256, scales, 64)] * 3,  # neighbours, channels, (reduction, dilation), message channels
        "fc_params": [(256, 0.1)],
        "global_aggregation": "attn4",
        "edge_aggregation": "attn8",
        "use_rel_lv_fts": True,
        "use_polarization_angle": False,
        "use_rel_fts": False,
        "use_rel_dist": False,
        "update_coords": False,
        "lv_aggregation": False,
        "use_node_se": True,
        "use_edge_se": True,
        "init_scale": 1e-5,
        "trim": True,
        "for_inference": False,
    }
    model = WeaverNetwork(ParticleNeXt(**network_keywords(defaults, kwargs)), data_config)
    return model, export_information(data_config)


def get_loss(data_config: Any, **kwargs: Any) -> nn.Module:
    """Return the loss of the full model."""
    return torch.nn.CrossEntropyLoss()
