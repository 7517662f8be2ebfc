"""With which arguments weaver's ParticleTransformer was built, which the module itself does not remember."""

from typing import Any

from torch import nn
from weaver.nn.model.ParticleTransformer import LayerScale, SwiGLUFFN, pairwise_lv_fts_ee, pairwise_lv_fts_pp

from phaze_ee.models.rebuilding import built_again, refuse

_SCALES = {"scale_attn_mask": "c_mask", "scale_heads": "c_attn", "scale_resids": "w_resid"}
_NORMS = {"scale_attn": "post_attn_norm", "scale_fc": "post_fc_norm"}
_FRESH_LAYER_SCALE = 1e-5  # what a LayerScale started from is not kept; its weights are loaded afterwards


def check_can_be_staged(mod: Any) -> None:
    """Raise a UsageError if weaver's module cannot be put into stages, or not be built again."""
    reasons = {
        "for_segmentation = True answers for each particle, and exits need one answer for a jet": mod.for_segmentation,
        "for_inference = True is for export to ONNX; build it without": mod.for_inference,
        "fc_params = None leaves it without a head; set a list": mod.fc is None,
        "pair_extra_dim > 0 needs pair inputs, which no data_config here has; set 0": mod.pair_extra_dim > 0,
        "embed_dims = [] leaves it without an embedding; set at least one width": isinstance(mod.embed, nn.Identity),
        "num_layers = 0 leaves it without a block to put an exit behind": len(mod.blocks) == 0,
    }
    refuse("ParticleTransformer", reasons)
    built_again(mod, arguments_of(mod))


def arguments_of(mod: Any) -> dict[str, Any]:
    """Return plain values with which weaver-core builds the same architecture.

    Its versions are sets of defaults. What they set in the blocks is returned as ``block_params`` and
    ``cls_block_params``; of the version itself, 1 and 3 are left, which differ in the norms and biases elsewhere.
    """
    has_class_blocks = mod.cls_blocks is not None
    return {
        "input_dim": int(mod.embed.input_bn.num_features),
        "num_classes": int(mod.fc[-1].out_features),
        **_pair_arguments(mod.pair_embed),
        "use_conv_embed": bool(mod.embed.use_conv_embed),
        "embed_dims": _widths(mod.embed),
        "activation": "gelu" if any(isinstance(layer, nn.GELU) for layer in mod.embed.modules()) else "relu",
        "num_heads": int(mod.blocks[0].num_heads),
        "num_layers": len(mod.blocks),
        "block_params": _block_params(mod.blocks[0]),
        "block_ids_with_attn_mask": [index for index, used in enumerate(mod.block_ids_with_attn_mask) if used],
        "include_global_token": bool(mod.include_global_token),
        "num_cls_layers": len(mod.cls_blocks) if has_class_blocks else 0,
        "cls_block_params": _block_params(mod.cls_blocks[0]) if has_class_blocks else None,
        "fc_params": [_hidden_layer(layer) for layer in mod.fc[:-1]],
        "version": 3 if isinstance(mod.norm, nn.RMSNorm) else 1,
        "trim": bool(mod.trimmer.enabled),
        "compile_model": bool(mod.trimmer.round_to_32),
    }


def _pair_arguments(embed: Any) -> dict[str, Any]:
    if embed is None:
        return {"pair_embed_dims": None}
    features = embed.pairwise_lv_fts
    kinds = {pairwise_lv_fts_pp: "pp", pairwise_lv_fts_ee: "ee"}
    coordinates = features.keywords.get("coords")
    return {
        "pair_input_type": kinds.get(features.func, "xyzt" if coordinates is None else f"xyzt:{coordinates}"),
        "pair_input_dim": int(embed.pairwise_lv_dim),
        "remove_self_pair": bool(embed.remove_self_pair),
        "use_pre_activation_pair": isinstance(embed.embed[-1], nn.BatchNorm1d),
        "pair_embed_dims": _widths(embed)[:-1],  # the last one leads to the heads
        "pair_embed_sparse_eval": [bool(sparse) for sparse in embed.sparse_eval],
    }


def _widths(module: nn.Module) -> list[int]:
    return [layer.weight.shape[0] for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv1d)]


def _block_params(block: Any) -> dict[str, Any]:
    attention = block.attn
    swiglu = block.fc1_g is not None
    return {
        "embed_dim": int(block.embed_dim),
        "num_heads": int(block.num_heads),
        "ffn_ratio": int(block.ffn_dim) // int(block.embed_dim),
        "dropout": float(block.dropout.p),
        "attn_dropout": float(attention.dropout),
        "activation_dropout": float(block.act_dropout.p),
        "activation": "swiglu" if swiglu else "gelu" if isinstance(block.act, nn.GELU) else "relu",
        "use_rmsnorm": isinstance(block.pre_attn_norm, nn.RMSNorm),
        "use_bias": block.fc1.bias is not None,
        "use_qk_norm": not isinstance(attention.q_norm, nn.Identity),
        "headwise_attn_output_gate": bool(attention.headwise_attn_output_gate),
        "elementwise_attn_output_gate": bool(attention.elementwise_attn_output_gate),
        "layer_scale_init_values": _FRESH_LAYER_SCALE if isinstance(block.ls1, LayerScale) else None,
        "drop_path_rate": float(getattr(block.drop_path1, "drop_prob", 0.0)),
        **{option: getattr(block, parameter) is not None for option, parameter in _SCALES.items()},
        **{option: not isinstance(getattr(block, norm), nn.Identity) for option, norm in _NORMS.items()},
    }


def _hidden_layer(layer: Any) -> list[Any]:
    first = layer[0]
    if isinstance(first, SwiGLUFFN):
        return [int(first.w3.out_features), float(first.drop.p), "swiglu"]
    return [int(first.out_features), float(layer[2].p), "gelu" if isinstance(layer[1], nn.GELU) else "relu"]
