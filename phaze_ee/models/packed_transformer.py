"""Particle Transformer on particles without padding, in inference and training."""

from collections.abc import Callable
from typing import Any, Self, final

from torch import Tensor, nn
from torch.nn.functional import linear

from phaze_ee.models.folded_pairs import FoldedPairs
from phaze_ee.models.packed_tokens import PackedTokens, TokenLayout
from phaze_ee.models.pair_bias import pair_bias
from phaze_ee.models.particle_net.batch_norm import WeightedRows, normalise
from phaze_ee.models.ragged_attention import Settings, ragged_attention
from phaze_ee.models.states import JetLayout, PackedState, beside, pool_rows
from phaze_ee.models.token_rows import between_products, through_products
from phaze_ee.models.transformer_stages import StagedParticleTransformer
from phaze_ee.models.weaver import trim
from phaze_ee.shapes import Float, Int
from phaze_ee.types import Jets


@final
class PackedParticleTransformer(StagedParticleTransformer[PackedState | PackedTokens]):
    """The network of :class:`phaze_ee.models.particle_transformer.ParticleTransformer`, over the same parameters.

    Layers on particles and pairs are weaver's, applied to those that exist. Padded particles only enter the statistics
    of the embedding in training, as rows with a weight. The attention is that of
    :mod:`phaze_ee.models.ragged_attention`.
    """

    def __init__(self, mod: Any) -> None:
        super().__init__(mod)
        self._folded_pairs = FoldedPairs()

    @property
    def waits(self) -> bool:
        return False

    @property
    def kept(self) -> object:
        return self._folded_pairs

    def packed(self) -> "PackedParticleTransformer":
        return self

    def train(self, mode: bool = True) -> Self:
        self._folded_pairs = FoldedPairs()
        return super().train(mode)

    def embed(self, inputs: Jets) -> PackedState:
        jets, length, particles = self.with_momenta(self.merged(inputs)), 0, None
        if self.training:
            jets, particles = trim(jets, self.core.trimmer, training=True, minimum_length=1)
            length = jets.mask.shape[-1]
        ragged = jets.ragged(particles)
        momenta = ragged.features_VC[:, :0] if ragged.vectors_V4 is None else ragged.vectors_V4
        return PackedState(ragged.features_VC, momenta, JetLayout(ragged.particle_count_N), length)

    def stage(self, index: int, state: PackedState | PackedTokens) -> PackedTokens:
        tokens = self._tokens(state) if isinstance(state, PackedState) else state
        layout, row_VC, global_NC = tokens.layout, tokens.particles.features_VC, tokens.global_NC
        block = self.core.blocks[index]
        bias = tokens.bias_HE if self.core.block_ids_with_attn_mask[index] else None
        if global_NC is None:
            after_VC = _block(block, row_VC, bias, Settings(layout.span_6N), layout.jet_V)
            return tokens.with_rows(after_VC, None)
        led_TC = layout.led(global_NC.to(row_VC.dtype), row_VC)
        after_TC = _block(block, led_TC, bias, Settings(layout.led_span_6N, lead=1), layout.led_jet_T)
        return tokens.with_rows(after_TC.index_select(0, layout.follower_V), after_TC.index_select(0, layout.leader_N))

    def _tokens(self, state: PackedState) -> PackedTokens:
        row_VC = state.features_VC if self.collections else _embedded(self.core.embed, state)
        pairs = self.core.pair_embed
        bias = None if pairs is None else pair_bias(pairs, state, self._folded_pairs)
        first = self.core.cls_token[0].expand(len(state), -1) if self.core.include_global_token else None
        particles = PackedState(row_VC, row_VC[:, :0], state.layout, state.length)
        return PackedTokens(particles, TokenLayout(state.layout, len(row_VC)), bias, first)

    def readout(self, state: PackedState | PackedTokens, globals_NG: Tensor | None = None) -> Float[Tensor, "N K"]:
        assert isinstance(state, PackedTokens)
        row_VC = state.particles.features_VC
        if state.global_NC is not None:
            pooled_NC = state.global_NC
        elif self.core.cls_blocks is None:
            pooled_NC = pool_rows(row_VC, state.particles.layout, "mean")
        else:
            pooled_NC = self.core.cls_token[0].expand(len(state), -1)
            for block in self.core.cls_blocks:
                pooled_NC = _class_block(block, pooled_NC, row_VC, state.layout)
        logits: Tensor = self.core.fc(beside(self.core.norm(pooled_NC), globals_NG))
        return logits


def _embedded(embed: Any, state: PackedState) -> Float[Tensor, "V C"]:
    """Apply weaver's Embed, whose normalisations see zeros in padded slots."""
    row_VC = state.features_VC
    padding_1 = row_VC.new_full((1,), len(state) * state.length - len(row_VC))
    rows = normalise(WeightedRows(row_VC, row_VC.new_zeros(1, row_VC.shape[1]), padding_1), embed.input_bn)
    for layer in embed.conv_embed if embed.use_conv_embed else ():
        if isinstance(layer, nn.Conv1d):
            rows = rows.linear(layer.weight.flatten(1))
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            rows = normalise(rows, layer)
        else:
            rows = rows._replace(row_EC=layer(rows.row_EC), extra_RC=layer(rows.extra_RC))
    return through_products(rows.row_EC, embed.embed)


def _block(
    block: Any, x_TC: Float[Tensor, "T C"], bias: Tensor | None, settings: Settings, jet_T: Int[Tensor, " T"]
) -> Float[Tensor, "T C"]:
    """Apply a block of weaver to the tokens of each jet."""
    attention = block.attn
    x_TC, u_TC = between_products(x_TC, (), norm=block.pre_attn_norm)
    projected = attention.in_proj(u_TC).view(len(u_TC), 3, attention.num_heads, attention.head_dim)
    if bias is not None and block.c_mask is not None:
        bias = block.c_mask * bias
    settings = settings._replace(dropout=_dropout(attention))
    mixed_THD = ragged_attention(_parts(attention, projected), bias, settings)
    return _rest(block, x_TC, u_TC, mixed_THD, settings.span_6N.shape[1], jet_T)


def _class_block(
    block: Any, x_NC: Float[Tensor, "N C"], row_VC: Float[Tensor, "V C"], layout: TokenLayout
) -> Float[Tensor, "N C"]:
    """Apply a block of weaver to the class tokens, which attend to themselves and to the particles."""
    attention, width = block.attn, block.embed_dim
    weight, shift = attention.in_proj.weight, attention.in_proj.bias
    of_query, of_others = (None, None) if shift is None else (shift[:width], shift[width:])
    _, u_TC = between_products(layout.led(x_NC.to(row_VC.dtype), row_VC), (), norm=block.pre_attn_norm)
    (query,) = _heads(attention, linear(x_NC, weight[:width], of_query), 1)
    key, value = _heads(attention, linear(u_TC, weight[width:], of_others), 2)
    settings = Settings(layout.class_span_6N, dropout=_dropout(attention))
    mixed_NHD = ragged_attention((attention.q_norm(query), attention.k_norm(key), value), None, settings)
    return _rest(block, x_NC, x_NC, mixed_NHD, len(x_NC), None)


def _heads(attention: Any, projected_TC: Tensor, count: int) -> tuple[Tensor, ...]:
    return projected_TC.view(len(projected_TC), count, attention.num_heads, attention.head_dim).unbind(1)


def _parts(attention: Any, projected_T3HD: Float[Tensor, "T 3 H D"]) -> tuple[Tensor, ...]:
    """Return queries, keys and values, after their norms; together if there are none."""
    if isinstance(attention.q_norm, nn.Identity) and isinstance(attention.k_norm, nn.Identity):
        return (projected_T3HD,)
    query, key, value = projected_T3HD.unbind(1)
    return attention.q_norm(query), attention.k_norm(key), value


def _dropout(attention: Any) -> float:
    return float(attention.dropout) if attention.training else 0.0


def _rest(
    block: Any, residual_TC: Tensor, query_TC: Tensor, mixed_THD: Tensor, jets: int, jet_T: Int[Tensor, " T"] | None
) -> Float[Tensor, "T C"]:
    """Apply what weaver's Block does after the attention: gates, both residual connections and the layers between."""
    attention = block.attn
    if attention.headwise_attn_output_gate or attention.elementwise_attn_output_gate:
        gate_TC = attention.gate_proj(query_TC).sigmoid()
        mixed_THD = mixed_THD * gate_TC.view(len(gate_TC), attention.num_heads, -1)
    x_TC, u_TC = between_products(
        mixed_THD.flatten(1),
        (block.post_attn_norm, block.dropout, block.ls1),
        product=attention.out_proj,
        scale_H=block.c_attn,
        drop=_dropped_path(block.drop_path1, jets, jet_T),
        residual_TC=residual_TC,
        norm=block.pre_fc_norm,
    )
    after_TC, _ = between_products(
        _hidden(block, u_TC),
        (block.dropout, block.ls2),
        product=block.fc2,
        drop=_dropped_path(block.drop_path2, jets, jet_T),
        residual_TC=x_TC,
        kept_C=block.w_resid,
    )
    return after_TC


def _hidden(block: Any, u_TC: Float[Tensor, "T C"]) -> Float[Tensor, "T C_hidden"]:
    """Return the channels between the two products of a block's second half."""
    after = (block.act_dropout, block.post_fc_norm)
    if block.fc1_g is None:
        return between_products(u_TC, (block.act, *after), product=block.fc1)[1]
    return between_products(block.act(block.fc1_g(u_TC)) * block.fc1(u_TC), after)[1]


def _dropped_path(
    path: nn.Module, jets: int, jet_T: Int[Tensor, " T"] | None
) -> Callable[[Float[Tensor, "T C"]], Float[Tensor, "T C"]] | None:
    """Return weaver's DropPath, which keeps or drops all tokens of a jet together; None where it drops nothing."""
    if isinstance(path, nn.Identity) or not path.training:
        return None
    if jet_T is None:
        return path

    def dropped(x_TC: Tensor) -> Tensor:
        factor_N1: Tensor = path(x_TC.new_ones(jets, 1))
        return x_TC * factor_N1.index_select(0, jet_T)

    return dropped
