"""Particle Transformer in stages against weaver-core's own module."""

from typing import Any

import torch
from torch import Tensor
from weaver.nn.model.ParticleTransformer import ParticleTransformer as WeaverParticleTransformer

from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.types import JetInputs
from tests.contracts.backbone import BackboneContract
from tests.jets import CHANNELS, CLASSES

SMALL: dict[str, Any] = {
    "input_dim": CHANNELS,
    "num_classes": CLASSES,
    "embed_dims": [12, 8],
    "pair_embed_dims": [6, 6],
    "num_heads": 2,
    "num_layers": 3,
    "trim": False,
}


def weaver_part(*, seed: int = 0, **changes: Any) -> WeaverParticleTransformer:
    """weaver's own module, with weights and statistics that are not the trivial ones."""
    torch.manual_seed(seed)
    network = WeaverParticleTransformer(**{**SMALL, **changes}).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            torch.nn.init.normal_(buffer, std=0.3)
        elif name.endswith("running_var"):
            torch.nn.init.uniform_(buffer, 0.5, 2.0)
    return network.eval()


class TestVersion1(BackboneContract):
    changes: dict[str, Any] = {}  # noqa: RUF012

    def backbone(self) -> ParticleTransformer:
        return ParticleTransformer(weaver_part(**self.changes))

    def reference(self, inputs: JetInputs) -> Tensor:
        logits: Tensor = weaver_part(**self.changes)(inputs.features, inputs.vectors, inputs.mask)
        return logits


class TestVersion2(TestVersion1):
    changes = {"version": 2}  # noqa: RUF012


class TestVersion3(TestVersion1):
    changes = {"version": 3}  # noqa: RUF012


class TestVersion35(TestVersion1):
    changes = {"version": 3.5}  # noqa: RUF012


class TestVersion36(TestVersion1):
    changes = {"version": 3.6}  # noqa: RUF012


class TestBiasInSomeBlocks(TestVersion1):
    parameters_without_use = ("backbone.mod.blocks.1.c_mask",)
    changes = {  # noqa: RUF012
        "block_ids_with_attn_mask": [0, 2],
        "block_params": {"scale_attn_mask": True, "ffn_ratio": 2, "layer_scale_init_values": 0.1},
        "use_conv_embed": True,
        "remove_self_pair": True,
        "fc_params": [[10, 0.1], [6, 0.0, "swiglu"]],
    }


class TestWithoutClassAttention(TestVersion1):
    changes = {"num_cls_layers": 0, "pair_input_type": "ee", "activation": "relu"}  # noqa: RUF012


class TestWithoutPairs(TestVersion1):
    changes = {"pair_embed_dims": None, "use_pre_activation_pair": False, "fc_params": [[10, 0.1, "gelu"]]}  # noqa: RUF012


class TestPairsInBothOrders(TestVersion1):
    changes = {"pair_input_dim": 8, "pair_embed_sparse_eval": [False, False]}  # noqa: RUF012
