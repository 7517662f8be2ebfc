"""Particle Transformer on several collections, such as particles and secondary vertices, for weaver and for PHAZE-EE.

The layers and their names are those of weaver's ParticleTransformerTagger, for any number of collections.
"""

from typing import Any

import torch
from torch import nn
from weaver.nn.model.ParticleTransformer import ParticleTransformer

from phaze_ee.models.network_file import WeaverNetwork, collection_keywords, export_information
from phaze_ee.models.particle_transformer import MergedParticleTransformer
from phaze_ee.models.particle_transformer import ParticleTransformer as StagedParticleTransformer


def get_model(data_config: Any, **kwargs: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network, and the information with which weaver exports it to ONNX."""
    defaults: dict[str, Any] = {
        "num_classes": len(data_config.label_value),
        "pair_input_type": "pp",
        "pair_input_dim": None,
        "pair_extra_dim": 0,
        "remove_self_pair": False,
        "use_pre_activation_pair": False,
        "embed_dims": [128, 512, 128],
        "pair_embed_dims": [64, 64, 64],
        "num_heads": 8,
        "num_layers": 8,
        "block_params": None,
        "num_cls_layers": 2,
        "cls_block_params": None,
        "fc_params": [],
        "activation": "gelu",
        "version": 1,
        "weight_init": "moco",
        "fix_init": True,
        "use_amp": False,
    }
    keywords, options = collection_keywords(data_config, defaults, kwargs)
    widths = list(keywords.pop("embed_dims"))
    core = ParticleTransformer(input_dim=widths[-1], embed_dims=[], trim=False, **keywords)
    embedding = {"dims": widths, "activation": keywords["activation"]}
    network = MergedParticleTransformer.around(core, embedding=embedding, **options)
    model = WeaverNetwork(StagedParticleTransformer(network), data_config, softmax=kwargs.get("for_inference", False))
    return model, export_information(data_config)


def get_loss(data_config: Any, **kwargs: Any) -> nn.Module:
    """Return the loss of the full model."""
    return torch.nn.CrossEntropyLoss()
