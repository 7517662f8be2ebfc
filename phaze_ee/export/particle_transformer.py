"""Particle Transformer in a file: weaver's blocks are called; attention and pairs have patterns of their own."""

import copy
from dataclasses import replace
from typing import Any, ClassVar, final

import torch
from onnx import TensorProto, helper
from torch import nn

from phaze_ee.export.functions import linear, matmul
from phaze_ee.export.graph import Graph
from phaze_ee.export.layers import on_rows
from phaze_ee.export.operations import binary, where
from phaze_ee.export.shaping import cat, gather, permute, reshape, unsqueeze
from phaze_ee.export.stages import FileStages
from phaze_ee.export.states import FileState
from phaze_ee.export.values import Later, Value, constant, integers, node


@final
class FileAttention(nn.Module):
    """weaver's attention in a file, for rows of one jet (T, C): no row is padding.

    The factor 1/√D of the scores and the factors of the result (``c_attn``) are in the weights.
    """

    def __init__(self, attention: Any, head_scale_H: torch.Tensor | None) -> None:
        super().__init__()
        self.attention = attention
        weight, bias = attention.in_proj.weight, attention.in_proj.bias
        parts = list(zip(weight.chunk(3), [None] * 3 if bias is None else bias.chunk(3), strict=True))
        self.scale = attention.head_dim**-0.5
        if isinstance(attention.q_norm, nn.Identity):
            query_weight, query_bias = parts[0]
            parts[0] = query_weight * self.scale, None if query_bias is None else query_bias * self.scale
            self.scale = 1.0
        self.query, self.key, self.value = parts
        self.out = [attention.out_proj.weight.detach(), attention.out_proj.bias]
        if head_scale_H is not None:
            scale_C = head_scale_H.repeat_interleave(attention.head_dim)
            bias_C = None if bias is None else self.out[1] * scale_C
            self.out = [self.out[0] * scale_C[:, None], bias_C]

    def forward(
        self, query: Any, key: Any, value: Any, key_padding_mask: Any = None, attn_mask: Value | None = None
    ) -> tuple[Any, None]:
        """Return the rows (T, C) for the queries, in the way weaver's block calls its attention."""
        attention = self.attention
        query_HTD = permute(attention.q_norm(self._heads(query, self.query)), 1, 0, 2)
        key_HDS = permute(attention.k_norm(self._heads(key, self.key)), 1, 2, 0)
        value_HSD = permute(self._heads(value, self.value), 1, 0, 2)
        score_HTS = matmul(query_HTD, key_HDS)
        score_HTS = score_HTS if self.scale == 1 else score_HTS * self.scale
        score_HTS = score_HTS if attn_mask is None else score_HTS + attn_mask
        weight_HTS = node(score_HTS.graph, "Softmax", score_HTS, shape=score_HTS.shape, axis=-1)
        result_THD = permute(matmul(weight_HTS, value_HSD), 1, 0, 2)
        if attention.headwise_attn_output_gate:
            result_THD = result_THD * unsqueeze(torch.sigmoid(attention.gate_proj(query)), 2)  # type: ignore[arg-type]
        result_TC = reshape(result_THD, -1, attention.embed_dim)
        if attention.elementwise_attn_output_gate:
            result_TC = result_TC * torch.sigmoid(attention.gate_proj(query))
        return linear(result_TC, *self.out), None

    def _heads(self, row_TC: Value, layer: Any) -> Any:
        return reshape(linear(row_TC, *layer), -1, self.attention.num_heads, self.attention.head_dim)


@final
class FileParticleTransformer(FileStages):
    """The network of :class:`phaze_ee.models.particle_transformer.ParticleTransformer`."""

    name: ClassVar[str] = "ParticleTransformer"
    opset: ClassVar[int] = 17  # the first with LayerNormalization

    def __init__(self, graph: Graph, backbone: Any) -> None:
        super().__init__(graph, backbone)
        self.mod = backbone.core
        self.blocks = [_in_file(block) for block in self.mod.blocks]
        self.class_blocks = [_in_file(block) for block in self.mod.cls_blocks or ()]

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("features", "mask") if self.mod.pair_embed is None else ("features", "vectors", "mask")

    def embedding(self, layer: Any) -> list[nn.Module]:
        if isinstance(layer, nn.Identity):  # of several collections, each has its own
            return []
        return [*([] if layer.input_bn is None else [layer.input_bn]), layer.conv_embed, layer.embed]

    def stage(self, index: int, state: FileState) -> FileState:
        if index == 0:
            state = self._embedded(state)
        bias = state.others.get("bias") if self.mod.block_ids_with_attn_mask[index] else None
        row_TC: Value = self.blocks[index](state.others["tokens"], attn_mask=bias)
        tokens = self.mod.include_global_token
        particles_VC = Later(row_TC, (None, row_TC.shape[1]), lambda: row_TC[1:]) if tokens else row_TC
        return replace(state.with_others(tokens=row_TC), rows_VC=particles_VC)

    def _embedded(self, state: FileState) -> FileState:
        row_TC = on_rows(self.embedding(self.mod.embed), state.rows_VC)
        if self.mod.include_global_token:
            row_TC = cat([self.mod.cls_token[0], row_TC])
        if self.mod.pair_embed is not None:
            # In a scope that all blocks see: the first block may not use it.
            bias_HTT = _pair_bias(self.mod.pair_embed, state)
            if self.mod.include_global_token:
                bias_HTT = node(
                    self.graph, "Pad", bias_HTT, integers(self.graph, 0, 1, 1, 0, 0, 0), shape=bias_HTT.shape
                )
            state = state.with_others(bias=bias_HTT)
        return state.with_others(tokens=row_TC)

    def readout(self, state: FileState) -> Any:
        row_TC = state.others["tokens"]
        if self.mod.include_global_token:
            pooled_1C: Any = row_TC[:1]
        elif self.class_blocks:
            pooled_1C = constant(self.graph, self.mod.cls_token[0])
            for block in self.class_blocks:
                pooled_1C = _class_attention(block, pooled_1C, row_TC)
        else:
            pooled_1C = state.pool("mean")
        return self.mod.fc(self.mod.norm(pooled_1C))


def _in_file(block: Any) -> Any:
    """Return a copy of a block whose attention can be written, for rows (T, C)."""
    copied = copy.deepcopy(block)
    copied.attn = FileAttention(block.attn, block.c_attn)
    copied.c_attn = None
    return copied


def _class_attention(block: Any, class_1C: Any, row_TC: Value) -> Any:
    """Call a block with the class token as its only query. weaver joins tokens along the second of three dimensions."""

    def attended(query: Any, key: Any, value: Any, key_padding_mask: Any = None) -> tuple[Any, None]:
        rows = [part[0] for part in (query, key, value)]
        return (block.attn(*rows)[0][None], None)

    called = copy.copy(block)
    called.__dict__["_modules"] = {**block._modules, "attn": _Called(attended)}
    no_padding = row_TC[:, 0][None] != row_TC[:, 0][None]
    return called(row_TC[None], x_cls=class_1C[None], padding_mask=no_padding)[0]


class _Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        return self.function(*arguments, **keywords)


def _pair_bias(embed: Any, state: FileState) -> Value:
    """Return the bias (H, V, V) of the attention, from pairs of particles."""
    vector_V4 = state.others["vectors"]
    graph, count = vector_V4.graph, state.count
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    one_VV = node(graph, "ConstantOfShape", cat([count, count]), shape=(None, None), dtype=torch.float32, value=one)
    offset = -1 if embed.is_symmetric and embed.remove_self_pair else 0
    if embed.is_symmetric:
        shift = constant(graph, offset, torch.int64)
        one_VV = node(graph, "Trilu", one_VV, shift, shape=(None, None), upper=0)
    place_2R = node(graph, "NonZero", one_VV, shape=(2, None), dtype=torch.int64)
    first_R, second_R = place_2R[0], place_2R[1]
    # weaver's functions of pairs take (N, 4, R).
    xi, xj = (permute(gather(vector_V4, index), 1, 0)[None] for index in (first_R, second_R))
    feature_RF = permute(embed.pairwise_lv_fts(xi, xj)[0], 1, 0)
    if not embed.is_symmetric and embed.remove_self_pair and not embed.sparse_eval[1]:
        feature_RF = where(unsqueeze(first_R == second_R, 1), 0.0, feature_RF)
    element_RH = on_rows([embed.embed], feature_RF)
    if not embed.is_symmetric:
        return permute(
            node(graph, "Reshape", element_RH, _square(count, embed.out_dim), shape=(None, None, embed.out_dim)),
            2,
            0,
            1,
        )
    return permute(gather(cat([element_RH, torch.zeros(1, embed.out_dim)]), _pair_numbers(count, offset)), 2, 0, 1)


def _square(count: Value, channels: int) -> Value:
    return cat([count, count, integers(count.graph, channels)])


def _pair_numbers(count: Value, offset: int) -> Value:
    """Return for each two particles (V, V) the number of their pair among those of the lower triangle, row by row.

    Without pairs of a particle with itself, that is the number of all pairs: there is a row of zeros.
    """
    graph = count.graph
    scalar = node(graph, "Squeeze", count, shape=())
    zero, one = constant(graph, 0, torch.int64), constant(graph, 1, torch.int64)
    row_V = node(graph, "Range", zero, scalar, one, shape=(None,), dtype=torch.int64)
    larger_VV, smaller_VV = (binary(operator, row_V[:, None], row_V[None]) for operator in ("Max", "Min"))
    # Row i of the triangle starts after i (i + 1) / 2 pairs, or i (i − 1) / 2.
    start_VV = binary("Div", larger_VV * (larger_VV + (1 + 2 * offset)), integers(graph, 2))
    number_VV = start_VV + smaller_VV
    if offset == 0:
        return number_VV
    total = binary("Div", count * (count - 1), integers(graph, 2))
    return where(row_V[:, None] == row_V[None], total, number_VV)
