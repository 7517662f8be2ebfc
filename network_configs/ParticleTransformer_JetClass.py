"""Particle Transformer for weaver and for PHAZE-EE, which adds exits to the network that get_model returns."""

from typing import Any

import torch
from torch import nn
from weaver.nn.model.ParticleTransformer import ParticleTransformer

from phaze_ee.models.network_file import (
    WeaverNetwork,
    collection_channels,
    export_information,
    input_channels,
    network_keywords,
)


def get_model(data_config: Any, **kwargs: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network, and the information with which weaver exports it to ONNX."""
    # The network of arXiv:2202.03772, as its published weights have it.
    defaults: dict[str, Any] = {
        "input_dim": input_channels(data_config),
        "num_classes": len(data_config.label_value),
        "pair_input_type": "pp",
        "pair_input_dim": None,
        "pair_extra_dim": 0,
        "remove_self_pair": False,
        "use_pre_activation_pair": False,
        "use_conv_embed": False,
        "embed_dims": [128, 512, 128],
        "pair_embed_dims": [64, 64, 64],
        "pair_embed_sparse_eval": None,
        "num_heads": 8,
        "num_layers": 8,
        "block_params": None,
        "block_ids_with_attn_mask": None,
        "include_global_token": False,
        "num_cls_layers": 2,
        "cls_block_params": None,
        "fc_params": [],
        "activation": "gelu",
        "version": 1,
        "weight_init": "moco",
        "fix_init": True,
        "trim": True,
        "for_inference": False,
        "for_segmentation": False,
        "use_amp": False,
        "compile_model": False,
    }
    keywords = network_keywords(defaults, kwargs)
    has_vectors = any(name.endswith("_vectors") for name in data_config.input_names)
    if keywords["pair_embed_dims"] is not None and not has_vectors:
        name, *_ = collection_channels(data_config)
        raise ValueError(
            f"pair features need four-momenta: add {name}_vectors (px, py, pz, energy) to the inputs of the "
            "data_config, or set the network option pair_embed_dims to None"
        )
    model = WeaverNetwork(ParticleTransformer(**keywords), data_config, takes=("features", "vectors", "mask"))
    return model, export_information(data_config)


def get_loss(data_config: Any, **kwargs: Any) -> nn.Module:
    """Return the loss of the full model."""
    return torch.nn.CrossEntropyLoss()
