"""ParticleNeXt on several collections, such as particles and secondary vertices, for weaver and for PHAZE-EE.

The layers and their names are those of weaver's ParticleNeXtTagger, for any number of collections.
"""

from typing import Any

import torch
from torch import nn
from weaver.nn.model.ParticleNeXt import ParticleNeXt

from phaze_ee.models.network_file import WeaverNetwork, collection_keywords, export_information
from phaze_ee.models.particle_next import MergedParticleNeXt
from phaze_ee.models.particle_next import ParticleNeXt as StagedParticleNeXt


def get_model(data_config: Any, **kwargs: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network, and the information with which weaver exports it to ONNX."""
    scales = [(8, 1), (4, 1), (2, 1), (1, 1)]
    defaults: dict[str, Any] = {
        "num_classes": len(data_config.label_value),
        "node_dim": 32,
        "edge_dim": 8,
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
    }
    keywords, options = collection_keywords(data_config, defaults, kwargs)
    width, trim = keywords.pop("node_dim"), options.pop("trims")  # all collections are trimmed together
    core = ParticleNeXt(feature_input_dim=width, node_dim=0, use_node_bn=False, trim=trim, **keywords)
    network = MergedParticleNeXt.around(core, trims=False, **options)
    model = WeaverNetwork(StagedParticleNeXt(network), data_config, softmax=kwargs.get("for_inference", False))
    return model, export_information(data_config)


def get_loss(data_config: Any, **kwargs: Any) -> nn.Module:
    """Return the loss of the full model."""
    return torch.nn.CrossEntropyLoss()
