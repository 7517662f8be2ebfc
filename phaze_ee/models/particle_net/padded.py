"""ParticleNet in stages, around the module of weaver-core."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor

from phaze_ee.config.sections import NetworkOptions
from phaze_ee.models.particle_net.packed import NativeParticleNet, PackedParticleNet
from phaze_ee.models.particle_net.stages import StagedParticleNet
from phaze_ee.models.states import PaddedState, beside
from phaze_ee.shapes import Float
from phaze_ee.types import Jets

# In half precision, padding is moved here before the neighbour search, as weaver does with AMP.
_HALF_PRECISION_SHIFT = 99.0


@final
class ParticleNet(StagedParticleNet[PaddedState]):
    """ParticleNet (arXiv:1902.08570): EdgeConv blocks on the k nearest neighbours of each particle.

    The parameters, layers and names are those of the module of weaver-core, held as ``mod`` as in the published
    checkpoints; this class only calls them in order. In training, the batch is trimmed as in weaver (to a random
    quantile of the lengths, after five warm-up calls); in evaluation, to its longest jet, from the first call.

    Args:
        mod: the module of weaver, whose parameters are shared.
    """

    packs_particles: ClassVar[bool] = False

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> Self:
        # The number of neighbours is in no weight, so nothing else would notice a wrong one.
        NetworkOptions(conv_params=arguments["conv_params"], fc_params=arguments["fc_params"])
        return super().from_arguments(arguments)

    @property
    def averages_padding(self) -> bool:
        return not self.core.use_counts

    def packed(self) -> PackedParticleNet:
        return PackedParticleNet(self.mod).train(self.training)

    def native(self) -> NativeParticleNet:
        return self.packed().native()

    def embed(self, inputs: Jets) -> PaddedState:
        jets = self.trim(inputs).jets
        features = self.core.bn_fts(jets.features) if self.core.use_fts_bn else jets.features
        padding = ~jets.valid_N1P
        return PaddedState(
            # Without bn_fts, weaver does not change padded slots, and jets with at most k particles read them. Zeros
            # make the answer independent of the padding; with zero-padded inputs both agree.
            features_NCP=features.masked_fill(padding, 0),
            coordinates_NDP=jets.points,
            valid_N1P=jets.valid_N1P,
        )

    def stage(self, index: int, state: PaddedState) -> PaddedState:
        padding = ~state.valid_N1P
        points = state.coordinates_NDP.masked_fill(padding, self._shift(state.coordinates_NDP))
        features = self.core.edge_convs[index](points, state.features_NCP).masked_fill(padding, 0)
        earlier = (*state.earlier, features) if self.core.use_fusion else ()
        return PaddedState(features, features, state.valid_N1P, earlier)

    def _shift(self, points: Tensor) -> float:
        half = points.dtype in (torch.float16, torch.bfloat16) or torch.is_autocast_enabled(points.device.type)
        return _HALF_PRECISION_SHIFT if half else float(self.core.coord_shift)

    def readout(self, state: PaddedState, globals_NG: Tensor | None = None) -> Float[Tensor, "N K"]:
        features = state.features_NCP
        if self.core.use_fusion:
            features = self.core.fusion_block(torch.cat(state.earlier, dim=1)).masked_fill(~state.valid_N1P, 0)
        counts = state.valid_N1P.sum(dim=-1).clamp(min=1) if self.core.use_counts else features.shape[-1]
        logits: Tensor = self.core.fc(beside(features.sum(dim=-1) / counts, globals_NG))
        return logits
