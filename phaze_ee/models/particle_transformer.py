"""Particle Transformer in stages around weaver-core's own module."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad
from weaver.nn.model.ParticleTransformer import ParticleTransformer as WeaverParticleTransformer

from phaze_ee.errors import UsageError
from phaze_ee.models.backbone import Backbone
from phaze_ee.models.macs import macs_per_row
from phaze_ee.models.padded import PaddedState
from phaze_ee.models.particle_transformer_arguments import arguments_of, check_can_be_staged
from phaze_ee.models.token_state import TokenState
from phaze_ee.models.trimming import trim
from phaze_ee.types import Jets

# Pairs of particles, counted in both orders, from which the bias is made at once in inference on the CPU.
_PAIRS = 16_384


@final
class ParticleTransformer(Backbone[PaddedState | TokenState]):
    """ParT (arXiv:2202.03772): self-attention with a bias made of pairs of particles, and class attention at the end.

    The parameters, layers and names are those of weaver-core's module, held as ``mod`` as the published checkpoints
    name it; only the order of calls is written here. Stage 0 is the embedding of particles and pairs and the first
    block, each further stage one block; a global token (version 3.6) runs along, and exits do not see it. In training
    the batch is trimmed as weaver trims it, in evaluation to its longest jet. A jet without particles gets the answer
    of the class token alone, whatever attention gives where everything is masked.

    Raises:
        UsageError: the module is made for segmentation or export, lacks its own head, or wants inputs that jets here do
            not have.
    """

    name: ClassVar[str] = "ParticleTransformer"
    weaver_class: ClassVar[type[nn.Module] | None] = WeaverParticleTransformer
    pads_to_longest: ClassVar[bool] = True

    def __init__(self, mod: WeaverParticleTransformer) -> None:
        super().__init__()
        check_can_be_staged(mod)
        self.mod = mod
        self.input_channels = int(mod.embed.input_bn.num_features)
        self.num_classes = int(mod.fc[-1].out_features)
        self.stage_channels = tuple(int(block.embed_dim) for block in mod.blocks)

    @property
    def arguments(self) -> Mapping[str, Any]:
        return arguments_of(self.mod)

    def modern_names(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        # Until weaver-core 0.4.17, attention was torch's own module, which names its joint projection so.
        return {
            name.replace("in_proj_weight", "in_proj.weight").replace("in_proj_bias", "in_proj.bias"): value
            for name, value in weights.items()
        }

    def embed(self, inputs: Jets) -> PaddedState:
        jets = trim(inputs.padded(), self.mod.trimmer, training=self.training, minimum_length=1)
        if self.mod.pair_embed is None:
            momenta = jets.features[:, :0]
        elif jets.vectors is None:
            raise UsageError(
                "ParticleTransformer makes its pair features of four-momenta and the jets have none: add pf_vectors "
                "(px, py, pz, energy) to the inputs of the data_config, or set network_options pair_embed_dims to None"
            )
        else:
            momenta = jets.vectors
        padding = ~jets.valid_N1P
        return PaddedState(jets.features.masked_fill(padding, 0), momenta.masked_fill(padding, 0), jets.valid_N1P)

    def stage(self, index: int, state: PaddedState | TokenState) -> TokenState:
        tokens = self._tokens(state) if isinstance(state, PaddedState) else state
        has_global = tokens.global_N1C is not None
        x = tokens.tokens_NPC if tokens.global_N1C is None else torch.cat([tokens.global_N1C, tokens.tokens_NPC], dim=1)
        bias = tokens.bias_NHTT if self.mod.block_ids_with_attn_mask[index] else None
        x = self.mod.blocks[index](x, padding_mask=_padding(tokens.valid_NP, has_global), attn_mask=bias)
        if has_global:
            return TokenState(x[:, 1:], tokens.valid_NP, tokens.bias_NHTT, x[:, :1])
        return TokenState(x, tokens.valid_NP, tokens.bias_NHTT)

    def _tokens(self, state: PaddedState) -> TokenState:
        valid_NP = state.valid_N1P[:, 0]
        tokens_NPC = self.mod.embed(state.features_NCP).masked_fill(~valid_NP[..., None], 0)
        bias = None if self.mod.pair_embed is None else self._pair_bias(state.coordinates_NDP, state.valid_N1P)
        if not self.mod.include_global_token:
            return TokenState(tokens_NPC, valid_NP, bias)
        global_N1C = self.mod.cls_token.expand(len(state), -1, -1)
        return TokenState(tokens_NPC, valid_NP, None if bias is None else pad(bias, (1, 0, 1, 0)), global_N1C)

    def _pair_bias(self, momenta_N4P: Tensor, valid_N1P: Bool[Tensor, "N 1 P"]) -> Float[Tensor, "N H P P"]:
        # Piece by piece where statistics and gradients do not need all pairs at once: what is made of them then stays
        # in the cache, which makes this up to three times as fast.
        piecewise = valid_N1P.device.type == "cpu" and not self.training and not torch.is_grad_enabled()
        jets = max(1, _PAIRS // valid_N1P.shape[-1] ** 2) if piecewise else max(1, len(valid_N1P))
        pieces = zip(torch.split(momenta_N4P, jets), torch.split(valid_N1P, jets), strict=True)
        return torch.cat([self._bias_of_piece(*piece) for piece in pieces])

    def _bias_of_piece(self, momenta_N4P: Tensor, valid_N1P: Bool[Tensor, "N 1 P"]) -> Float[Tensor, "N H P P"]:
        embed = self.mod.pair_embed
        fewest = 2 if embed.is_symmetric and embed.remove_self_pair else 1
        if not bool((valid_N1P.sum(dim=-1) >= fewest).any()):  # no pairs at all, which convolutions do not take
            count, _, length = valid_N1P.shape
            return momenta_N4P.new_zeros(count, embed.out_dim, length, length)
        bias_NHPP: Tensor = embed(momenta_N4P, mask=valid_N1P)
        return bias_NHPP

    def readout(self, state: PaddedState | TokenState) -> Float[Tensor, "N K"]:
        assert isinstance(state, TokenState)
        # With a global token, the aggregator looks at that alone.
        tokens = state.tokens_NPC if state.global_N1C is None else state.global_N1C
        logits: Tensor = self.mod.fc(self.mod._forward_aggregator(tokens, ~state.valid_NP))
        return logits

    def stage_macs(self, index: int, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        slots_N = particle_count_N.clamp(min=1)
        tokens_N = slots_N + int(self.mod.include_global_token)
        block = self.mod.blocks[index]
        macs_N: Tensor = tokens_N * (macs_per_row(block) + 2 * tokens_N * block.embed_dim)
        if index == 0:
            macs_N = macs_N + slots_N * macs_per_row(self.mod.embed)
            if self.mod.pair_embed is not None:
                macs_N = macs_N + self._pairs(particle_count_N) * macs_per_row(self.mod.pair_embed)
        return macs_N

    def _pairs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        if not self.mod.pair_embed.is_symmetric:
            return particle_count_N * particle_count_N
        without_self = int(self.mod.pair_embed.remove_self_pair)
        return particle_count_N * (particle_count_N + 1 - 2 * without_self) // 2

    def readout_macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        tokens_N = particle_count_N.clamp(min=1) + 1  # the class token
        macs_N = torch.full_like(particle_count_N, macs_per_row(self.mod.fc))
        for block in self.mod.cls_blocks or ():
            # The class token alone asks; all tokens are asked, with a key and a value each, and it gets the rest.
            keys_and_values = 2 * block.embed_dim**2
            macs_N = macs_N + tokens_N * (keys_and_values + 2 * block.embed_dim)
            macs_N = macs_N + macs_per_row(block) - keys_and_values
        return macs_N


def _padding(valid_NP: Bool[Tensor, "N P"], has_global: bool) -> Bool[Tensor, "N T"]:
    """Return the tokens that attention must not look at."""
    if has_global:
        return pad(~valid_NP, (1, 0), value=False)
    # In a jet without particles it looks at an empty slot: a softmax over nothing is not a number.
    first_P = torch.arange(valid_NP.shape[1], device=valid_NP.device) == 0
    return ~(valid_NP | (first_P & ~valid_NP.any(dim=1, keepdim=True)))
