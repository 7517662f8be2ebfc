"""ParticleNet in stages, around weaver-core's own module."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from weaver.nn.model.ParticleNet import ParticleNet as WeaverParticleNet

from phaze_ee.models.backbone import Backbone
from phaze_ee.models.padded import PaddedState, fit_length
from phaze_ee.types import JetInputs

# Where padding is moved to before neighbours are searched, in half precision; weaver's choice for AMP.
_HALF_PRECISION_SHIFT = 99.0


@final
class ParticleNet(Backbone[PaddedState]):
    """ParticleNet (arXiv:1902.08570): EdgeConv blocks on the k nearest neighbours of each particle.

    The parameters, layers and names are those of weaver-core's module, held as ``mod`` as the published checkpoints
    name it; only the order of calls is written here. In training the batch is trimmed as weaver trims it (to a random
    quantile of the lengths, after five warm-up calls); in evaluation to its longest jet, from the first call on.
    """

    name: ClassVar[str] = "particle_net"
    weaver_class: ClassVar[type[nn.Module]] = WeaverParticleNet

    def __init__(self, mod: WeaverParticleNet) -> None:
        super().__init__()
        self.mod = mod
        self.stage_channels = tuple(int(block.convs[-1].out_channels) for block in mod.edge_convs)
        self.input_channels = int(mod.edge_convs[0].convs[0].in_channels) // 2
        self.num_classes = int(mod.fc[-1].out_features)
        self._minimum_length = 1 + max(int(block.k) for block in mod.edge_convs)

    @property
    def arguments(self) -> Mapping[str, Any]:
        hidden = [layer for layer in self.mod.fc if isinstance(layer, nn.Sequential)]
        return {
            "input_dims": self.input_channels,
            "num_classes": self.num_classes,
            "conv_params": [
                [int(block.k), [int(conv.out_channels) for conv in block.convs]] for block in self.mod.edge_convs
            ],
            "fc_params": [[int(layer[0].out_features), float(layer[2].p)] for layer in hidden],
            "use_fusion": bool(self.mod.use_fusion),
            "use_fts_bn": bool(self.mod.use_fts_bn),
            "use_counts": bool(self.mod.use_counts),
        }

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> "ParticleNet":
        return cls(WeaverParticleNet(**arguments))

    @classmethod
    def from_weaver(cls, module: WeaverParticleNet) -> "ParticleNet":
        return cls(module)

    def embed(self, inputs: JetInputs) -> PaddedState:
        if self.training:
            points, features, valid, _ = self.mod.trimmer(inputs.points, inputs.features, mask=inputs.mask)
            inputs = JetInputs(points, features, None, valid)
            longest = inputs.mask.shape[-1]
            inputs = inputs if longest >= self._minimum_length else fit_length(inputs, self._minimum_length)
        else:
            inputs = fit_length(inputs, self._minimum_length)
        features = self.mod.bn_fts(inputs.features) if self.mod.use_fts_bn else inputs.features
        padding = ~inputs.valid_N1P
        return PaddedState(
            # Without bn_fts, weaver leaves whatever stands in padded slots, and jets of at most k particles read it.
            # Zeros there make the answer independent of the padding; with zero-padded input both agree.
            features_NCP=features.masked_fill(padding, 0),
            coordinates_NDP=inputs.points,
            valid_N1P=inputs.valid_N1P,
        )

    def stage(self, index: int, state: PaddedState) -> PaddedState:
        padding = ~state.valid_N1P
        points = state.coordinates_NDP.masked_fill(padding, self._shift(state.coordinates_NDP))
        features = self.mod.edge_convs[index](points, state.features_NCP).masked_fill(padding, 0)
        earlier = (*state.earlier, features) if self.mod.use_fusion else ()
        return PaddedState(features, features, state.valid_N1P, earlier)

    def _shift(self, points: Tensor) -> float:
        half = points.dtype in (torch.float16, torch.bfloat16) or torch.is_autocast_enabled(points.device.type)
        return _HALF_PRECISION_SHIFT if half else float(self.mod.coord_shift)

    def readout(self, state: PaddedState) -> Float[Tensor, "N K"]:
        features = state.features_NCP
        if self.mod.use_fusion:
            features = self.mod.fusion_block(torch.cat(state.earlier, dim=1)).masked_fill(~state.valid_N1P, 0)
        counts = state.valid_N1P.sum(dim=-1).clamp(min=1) if self.mod.use_counts else features.shape[-1]
        logits: Tensor = self.mod.fc(features.sum(dim=-1) / counts)
        return logits
