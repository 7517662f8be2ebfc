"""ParticleNet on several collections, such as particles and secondary vertices, for weaver and for PHAZE-EE.

The layers and their names are those of weaver's ParticleNetTagger, for any number of collections.
"""

from typing import Any

import torch
from torch import nn
from weaver.nn.model.ParticleNet import ParticleNet

from phaze_ee.models.network_file import WeaverNetwork, collection_keywords, export_information
from phaze_ee.models.particle_net.merged import MergedParticleNet
from phaze_ee.models.particle_net.padded import ParticleNet as StagedParticleNet


def get_model(data_config: Any, **kwargs: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network, and the information with which weaver exports it to ONNX."""
    defaults: dict[str, Any] = {
        "num_classes": len(data_config.label_value),
        "conv_params": [(16, (64, 64, 64)), (16, (128, 128, 128)), (16, (256, 256, 256))],
        "fc_params": [(256, 0.1)],
        "use_fusion": False,
        "use_fts_bn": True,
        "use_counts": True,
        "use_amp": False,
    }
    keywords, options = collection_keywords(data_config, defaults, kwargs)
    core = ParticleNet(input_dims=32, trim=False, **keywords)
    network = MergedParticleNet.around(core, **options)
    model = WeaverNetwork(StagedParticleNet(network), data_config, softmax=kwargs.get("for_inference", False))
    return model, export_information(data_config)


def get_loss(data_config: Any, **kwargs: Any) -> nn.Module:
    """Return the loss of the full model."""
    return torch.nn.CrossEntropyLoss()
