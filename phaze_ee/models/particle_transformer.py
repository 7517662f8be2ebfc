"""Particle Transformer in stages, around the module of weaver-core."""

from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from weaver.nn.model.ParticleTransformer import ParticleTransformer as WeaverParticleTransformer

from phaze_ee.models.packed_transformer import PackedParticleTransformer
from phaze_ee.models.states import PaddedState, TokenState, beside
from phaze_ee.models.transformer_stages import MergedParticleTransformer, StagedParticleTransformer, check_can_be_staged
from phaze_ee.models.weaver import refuse, trim
from phaze_ee.shapes import Bool, Float
from phaze_ee.types import Jets

__all__ = ["MergedParticleTransformer", "ParticleTransformer"]

# Pairs of particles, counted in both orders, whose bias is computed at once in inference on the CPU.
_PAIRS = 16_384


@final
class ParticleTransformer(StagedParticleTransformer[PaddedState | TokenState]):
    """ParT (arXiv:2202.03772): self-attention with a bias from pairs of particles, and class attention at the end.

    The parameters, layers and names are those of the module of weaver-core, held as ``mod`` as in the published
    checkpoints; this class only calls them in order. Stage 0 is the embedding of particles and pairs and the first
    block; each further stage is one block. Exits do not see the global token of version 3.6. In training, the batch is
    trimmed as in weaver; in evaluation, to its longest jet. A jet without particles gets the answer of the class token
    alone.

    Args:
        mod: the module of weaver, whose parameters are shared.

    Raises:
        UsageError: the module is for segmentation or export, has no head of its own, or needs inputs that jets do not
            have here.
    """

    pads_to_longest: ClassVar[bool] = True

    def __init__(self, mod: WeaverParticleTransformer | MergedParticleTransformer) -> None:
        core: Any = mod.core if isinstance(mod, MergedParticleTransformer) else mod
        check_can_be_staged(core)
        if core is mod and isinstance(core.embed, nn.Identity):
            refuse(self.name, {"embed_dims = [] leaves it without an embedding; set at least one width": True})
        super().__init__(mod)

    def packed(self) -> PackedParticleTransformer:
        return PackedParticleTransformer(self.mod).train(self.training)

    def embed(self, inputs: Jets) -> PaddedState:
        merged = self.with_momenta(self.merged(inputs))
        jets = trim(merged, self.core.trimmer, training=self.training, minimum_length=1).jets
        momenta = jets.features[:, :0] if jets.vectors is None else jets.vectors
        padding = ~jets.valid_N1P
        return PaddedState(jets.features.masked_fill(padding, 0), momenta.masked_fill(padding, 0), jets.valid_N1P)

    def stage(self, index: int, state: PaddedState | TokenState) -> TokenState:
        tokens = self._tokens(state) if isinstance(state, PaddedState) else state
        has_global = tokens.global_N1C is not None
        x = tokens.tokens_NPC if tokens.global_N1C is None else torch.cat([tokens.global_N1C, tokens.tokens_NPC], dim=1)
        bias = tokens.bias_NHTT if self.core.block_ids_with_attn_mask[index] else None
        x = self.core.blocks[index](x, padding_mask=_padding(tokens.valid_NP, has_global), attn_mask=bias)
        if has_global:
            return TokenState(x[:, 1:], tokens.valid_NP, tokens.bias_NHTT, x[:, :1])
        return TokenState(x, tokens.valid_NP, tokens.bias_NHTT)

    def _tokens(self, state: PaddedState) -> TokenState:
        valid_NP = state.valid_N1P[:, 0]
        embedded_NPC = state.features_NCP.transpose(1, 2) if self.collections else self.core.embed(state.features_NCP)
        tokens_NPC = embedded_NPC.masked_fill(~valid_NP[..., None], 0)
        bias = None if self.core.pair_embed is None else self._pair_bias(state.coordinates_NDP, state.valid_N1P)
        if not self.core.include_global_token:
            return TokenState(tokens_NPC, valid_NP, bias)
        global_N1C = self.core.cls_token.expand(len(state), -1, -1)
        return TokenState(tokens_NPC, valid_NP, None if bias is None else pad(bias, (1, 0, 1, 0)), global_N1C)

    def _pair_bias(self, momenta_N4P: Tensor, valid_N1P: Bool[Tensor, "N 1 P"]) -> Float[Tensor, "N H P P"]:
        # Piece by piece if statistics and gradients do not need all pairs at once: intermediate values then stay in the
        # cache, which is up to three times as fast.
        piecewise = valid_N1P.device.type == "cpu" and not self.training and not torch.is_grad_enabled()
        jets = max(1, _PAIRS // valid_N1P.shape[-1] ** 2) if piecewise else max(1, len(valid_N1P))
        pieces = zip(torch.split(momenta_N4P, jets), torch.split(valid_N1P, jets), strict=True)
        return torch.cat([self._bias_of_piece(*piece) for piece in pieces])

    def _bias_of_piece(self, momenta_N4P: Tensor, valid_N1P: Bool[Tensor, "N 1 P"]) -> Float[Tensor, "N H P P"]:
        embed = self.core.pair_embed
        fewest = 2 if embed.is_symmetric and embed.remove_self_pair else 1
        if not bool((valid_N1P.sum(dim=-1) >= fewest).any()):  # convolutions do not accept an empty set of pairs
            count, _, length = valid_N1P.shape
            return momenta_N4P.new_zeros(count, embed.out_dim, length, length)
        bias_NHPP: Tensor = embed(momenta_N4P, mask=valid_N1P)
        return bias_NHPP

    def readout(self, state: PaddedState | TokenState, globals_NG: Tensor | None = None) -> Float[Tensor, "N K"]:
        assert isinstance(state, TokenState)
        # With a global token, the aggregator uses that token alone.
        tokens = state.tokens_NPC if state.global_N1C is None else state.global_N1C
        logits: Tensor = self.core.fc(beside(self.core._forward_aggregator(tokens, ~state.valid_NP), globals_NG))
        return logits


def _padding(valid_NP: Bool[Tensor, "N P"], has_global: bool) -> Bool[Tensor, "N T"]:
    """Return the tokens that attention must ignore."""
    if has_global:
        return pad(~valid_NP, (1, 0), value=False)
    # In a jet without particles, attention sees an empty slot: a softmax over no slots is NaN.
    first_P = torch.arange(valid_NP.shape[1], device=valid_NP.device) == 0
    return ~(valid_NP | (first_P & ~valid_NP.any(dim=1, keepdim=True)))
