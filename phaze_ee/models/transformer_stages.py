"""The common base of both forms of Particle Transformer: the module of weaver-core, its arguments and its cost."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from weaver.nn.model.ParticleTransformer import (
    Embed,
    LayerScale,
    ParticleTransformerTagger,
    SwiGLUFFN,
    pairwise_lv_fts_ee,
    pairwise_lv_fts_pp,
)
from weaver.nn.model.ParticleTransformer import ParticleTransformer as WeaverParticleTransformer

from phaze_ee.kernels.availability import has_kernels
from phaze_ee.models.backbone import StateT, macs_per_row
from phaze_ee.models.merged import MergedNetwork, MergingBackbone
from phaze_ee.models.ragged_attention import fits_kernel
from phaze_ee.models.weaver import built_again, is_head, refuse
from phaze_ee.shapes import Bool, Float, Int
from phaze_ee.types import JetInputs, Jets

_SCALES = {"scale_attn_mask": "c_mask", "scale_heads": "c_attn", "scale_resids": "w_resid"}
_NORMS = {"scale_attn": "post_attn_norm", "scale_fc": "post_fc_norm"}
_FRESH_LAYER_SCALE = 1e-5  # the initial value does not matter, because the weights are loaded afterwards


def check_can_be_staged(mod: Any) -> None:
    """Raise a UsageError if a module of weaver cannot be divided into stages or built again."""
    reasons = {
        "for_segmentation = True answers for each particle, and exits need one answer for a jet": mod.for_segmentation,
        "for_inference = True is for export to ONNX; build it without": mod.for_inference,
        "fc_params = None leaves it without a head; set a list, in place of layers behind it": mod.fc is None,
        "its fc is not hidden layers with ReLU, GELU or SwiGLU, then a Linear": (
            mod.fc is not None and not is_head(mod.fc, nn.ReLU, nn.GELU, other=SwiGLUFFN)
        ),
        "pair_extra_dim > 0 needs pair inputs, which no data_config here has; set 0": mod.pair_extra_dim > 0,
        "num_layers = 0 leaves it without a block before an exit": len(mod.blocks) == 0,
    }
    refuse("ParticleTransformer", reasons)
    built_again(mod, arguments_of(mod))


def arguments_of(mod: Any) -> dict[str, Any]:
    """Return plain values from which weaver-core builds the same architecture.

    A version of weaver is a set of defaults. Those for the blocks are returned as ``block_params`` and
    ``cls_block_params``. The version is then 1 or 3, which differ in the norms and biases outside of the blocks.
    """
    has_class_blocks = mod.cls_blocks is not None
    return {
        "input_dim": input_channels(mod),
        "num_classes": int(mod.fc[-1].out_features),
        **_pair_arguments(mod.pair_embed),
        "use_conv_embed": bool(getattr(mod.embed, "use_conv_embed", False)),
        "embed_dims": _widths(mod.embed),
        "activation": _activation(mod.embed),
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


def input_channels(mod: Any) -> int:
    """Return the number of features of a particle that the network takes."""
    return int(mod.blocks[0].embed_dim if isinstance(mod.embed, nn.Identity) else mod.embed.input_bn.num_features)


def _activation(embed: nn.Module) -> str:
    return "gelu" if any(isinstance(layer, nn.GELU) for layer in embed.modules()) else "relu"


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


@final
class MergedParticleTransformer(MergedNetwork):
    """An embedding of the features of each collection, then ParT on all particles, as ParticleTransformerTagger."""

    tagger_class: ClassVar[type[nn.Module]] = ParticleTransformerTagger
    core_name: ClassVar[str] = "part"
    layer_name: ClassVar[str] = "embed"
    width_keyword: ClassVar[str | None] = "embed_dims"

    @staticmethod
    def new_embedding(core: Any, channels: int, **options: Any) -> nn.Module:
        embedding: nn.Module = Embed(channels, **options)
        return embedding

    @staticmethod
    def channels_of(layer: Any) -> int:
        return int(layer.input_bn.num_features)

    @staticmethod
    def options_of(layer: Any) -> dict[str, Any]:
        return {"dims": _widths(layer), "activation": _activation(layer)}

    def embed(self, layer: Any, features_NCP: Float[Tensor, "N C P"], valid_N1P: Bool[Tensor, "N 1 P"]) -> Tensor:
        embedded_NPC: Tensor = layer(features_NCP)
        return embedded_NPC.transpose(1, 2)


class StagedParticleTransformer(MergingBackbone[StateT]):
    """Stages around weaver-core's ParticleTransformer, held as ``mod`` as in published checkpoints.

    Args:
        mod: a module of weaver for which :func:`check_can_be_staged` raises nothing. Its parameters are shared.
    """

    name: ClassVar[str] = "ParticleTransformer"
    has_packed_form: ClassVar[bool] = True
    weaver_class: ClassVar[type[nn.Module] | None] = WeaverParticleTransformer
    merged_class: ClassVar[type[MergedNetwork]] = MergedParticleTransformer
    reads_points: ClassVar[bool] = False

    def __init__(self, mod: WeaverParticleTransformer | MergedParticleTransformer) -> None:
        super().__init__(mod)
        core = self.core
        self.input_channels = input_channels(core)
        self.num_classes = int(core.fc[-1].out_features)
        self.stage_channels = tuple(int(block.embed_dim) for block in core.blocks)

    @property
    def core_arguments(self) -> Mapping[str, Any]:
        return arguments_of(self.core)

    def modern_names(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        # Up to weaver-core 0.4.17, attention was the module of torch, with these names for the joint projection.
        return {
            name.replace("in_proj_weight", "in_proj.weight").replace("in_proj_bias", "in_proj.bias"): value
            for name, value in weights.items()
        }

    def with_momenta(self, jets: Jets) -> Jets:
        """Return the jets with the four-momenta of which pair features are made, without them if there are none.

        Raises:
            UsageError: the network needs four-momenta and the jets have none.
        """
        if self.core.pair_embed is None:
            return jets.without_vectors()
        momenta = jets.vectors if isinstance(jets, JetInputs) else jets.vectors_V4
        if momenta is None:
            raise self.missing_momenta("pair features", "pair_embed_dims to None")
        return jets

    def packed_is_fast(self, device: torch.device) -> bool:
        # On the CPU, jets of similar length are padded together, and torch's layers are as fast.
        sizes = [int(block.head_dim) for block in (*self.core.blocks, *(self.core.cls_blocks or ()))]
        return has_kernels(device) and fits_kernel(max(sizes))

    @property
    def readout_layers(self) -> nn.Module:
        layers: nn.Module = self.core.fc
        return layers

    def stage_macs(self, index: int, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        slots_N = particle_count_N.clamp(min=1)
        tokens_N = slots_N + int(self.core.include_global_token)
        block = self.core.blocks[index]
        macs_N: Tensor = tokens_N * (macs_per_row(block) + 2 * tokens_N * block.embed_dim)
        if index == 0:
            macs_N = macs_N + slots_N * macs_per_row(self.core.embed)
            if self.core.pair_embed is not None:
                macs_N = macs_N + self._pairs(particle_count_N) * macs_per_row(self.core.pair_embed)
        return macs_N

    def _pairs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        if not self.core.pair_embed.is_symmetric:
            return particle_count_N * particle_count_N
        without_self = int(self.core.pair_embed.remove_self_pair)
        return particle_count_N * (particle_count_N + 1 - 2 * without_self) // 2

    def readout_macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        tokens_N = particle_count_N.clamp(min=1) + 1  # the class token
        macs_N = torch.full_like(particle_count_N, macs_per_row(self.core.fc))
        for block in self.core.cls_blocks or ():
            # The class token is the only query; all tokens have a key and a value. Other layers act on the class token.
            keys_and_values = 2 * block.embed_dim**2
            macs_N = macs_N + tokens_N * (keys_and_values + 2 * block.embed_dim)
            macs_N = macs_N + macs_per_row(block) - keys_and_values
        return macs_N
