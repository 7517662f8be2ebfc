"""With which arguments weaver's ParticleNeXt was built, which the module itself does not remember."""

from typing import Any

import torch
from torch import nn

from phaze_ee.errors import UsageError, one_line
from phaze_ee.models.rebuilding import built_again, refuse

_AUGMENTATIONS = ("input_dropout", "pt_dropout", "lorentz_vector_scale", "lorentz_vector_smear", "lorentz_vector_shift")


def check_can_be_staged(mod: Any) -> None:
    """Raise a UsageError if weaver's module cannot be put into stages, or not be built again."""
    reasons = {
        "for_segmentation = True answers for each particle, and exits need one answer for a jet": mod.for_segmentation,
        "for_inference = True is for export to ONNX; build it without": mod.for_inference,
        "edge_input_dim > 0 needs edge inputs, which no data_config here has; set 0": _edge_input_dim(mod) > 0,
        **{
            f"{name} changes the jets in training, which exits do not; set it to None": getattr(mod, name)
            for name in _AUGMENTATIONS
        },
    }
    refuse("ParticleNeXt", reasons)
    _check_runs(built_again(mod, arguments_of(mod)))


def _check_runs(twin: Any) -> None:
    channels, k = input_channels(twin), twin.num_neighbors
    try:
        with torch.device("meta"):
            twin.eval()(torch.zeros(1, 2, k), torch.zeros(1, channels, k), torch.zeros(1, 4, k), torch.ones(1, 1, k))
    except (RuntimeError, TypeError) as error:
        raise UsageError(
            "weaver's ParticleNeXt does not run with these options: lv_aggregation needs use_rel_lv_fts, use_rel_dist "
            "needs update_coords, and update_coords needs edge_dim = 0 and one scale in each layer "
            f"({one_line(error)})"
        ) from error


def arguments_of(mod: Any) -> dict[str, Any]:
    """Return plain values with which weaver-core builds the same architecture.

    What the layers' scales start from (init_scale) is not kept; their weights are loaded afterwards.
    """
    layer = mod.layers[0]
    return {
        "feature_input_dim": input_channels(mod),
        "num_classes": int(mod.fc[-1].out_features),
        "node_dim": _encoded_channels(mod.node_encode),
        "edge_dim": _encoded_channels(mod.edge_encode),
        "use_node_bn": not isinstance(mod.node_encode, nn.Identity),
        "use_edge_bn": isinstance(mod.edge_encode, nn.BatchNorm2d),
        "layer_params": [_layer_params(block) for block in mod.layers],
        "fc_params": [[int(hidden[0].out_features), float(hidden[2].p)] for hidden in mod.fc[:-1]],
        "global_aggregation": str(mod.global_aggregation),
        "edge_aggregation": str(layer.edge_aggregation),
        **pair_options(mod),
        "update_coords": bool(layer.update_coords),
        "lv_aggregation": bool(layer.lv_aggregation),
        "use_node_se": layer.node_se is not None,
        "use_edge_se": layer.edge_se is not None,
        "trim": bool(mod.trim),
    }


def input_channels(mod: Any) -> int:
    """Return how many features of a particle the network takes."""
    normalisation = _normalisation(mod.node_encode)
    return _node_channels(mod.layers[0]) if normalisation is None else normalisation.num_features


def _encoded_channels(encode: Any) -> int:
    convolution: Any = encode[1] if isinstance(encode, nn.Sequential) else None
    return 0 if convolution is None else int(convolution.out_channels)


def _node_channels(layer: Any) -> int:
    """Return how many channels of a particle a layer takes."""
    shortcut: Any = layer.shortcut
    return len(layer.gamma) if isinstance(shortcut, nn.Identity) else int(shortcut[0].in_channels)


def pair_options(mod: Any) -> dict[str, bool]:
    """Return what the network makes of the pairs of a particle and its neighbour."""
    names = ("use_rel_lv_fts", "use_polarization_angle", "use_rel_fts", "use_rel_dist")
    keywords = mod.layers[0].get_graph_feature.keywords
    return {name: bool(keywords[name]) for name in names}


def _edge_input_dim(mod: Any) -> int:
    layer, pairs = mod.layers[0], pair_options(mod)
    made_here = pairs["use_rel_dist"] + (4 + pairs["use_polarization_angle"]) * pairs["use_rel_lv_fts"]
    normalisation = _normalisation(mod.edge_encode)
    if normalisation is None:
        return int(layer.edge_mlp[0].num_features) - _message_channels(layer) - made_here
    return normalisation.num_features - made_here


def _normalisation(encode: nn.Module) -> nn.BatchNorm2d | None:
    """Return the layer that an encoder starts with, if it is not the identity."""
    return next((layer for layer in encode.modules() if isinstance(layer, nn.BatchNorm2d)), None)


def _message_channels(layer: Any) -> int:
    channels: int = layer.edge_mlp[-1].out_channels
    return channels


def _layer_params(layer: Any) -> list[Any]:
    # A slice ends at k // reduction, and k // (k // reduction) is a reduction with the same end.
    scales = [[layer.k // part.stop, part.step] for part in layer.slices]
    return [int(layer.k), int(layer.gamma.shape[0]), scales, _message_channels(layer)]
