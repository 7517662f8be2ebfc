"""ParticleNet on several collections of a jet, as weaver's ParticleNetTagger has it."""

from typing import Any, ClassVar, final

from torch import Tensor, nn
from weaver.nn.model.ParticleNet import FeatureConv, ParticleNetTagger

from phaze_ee.machine import process_count
from phaze_ee.models.merged import MergedNetwork
from phaze_ee.models.particle_net.training import normalise_slots
from phaze_ee.shapes import Bool, Float


@final
class MergedParticleNet(MergedNetwork):
    """A convolution on the features of each collection, then ParticleNet on all particles together."""

    tagger_class: ClassVar[type[nn.Module]] = ParticleNetTagger
    core_name: ClassVar[str] = "pn"
    layer_name: ClassVar[str] = "conv"

    @staticmethod
    def new_embedding(core: Any, channels: int, **options: Any) -> nn.Module:
        embedding: nn.Module = FeatureConv(channels, core.edge_convs[0].convs[0].in_channels // 2, **options)
        return embedding

    @staticmethod
    def channels_of(layer: Any) -> int:
        return int(layer.conv[0].num_features)

    def embed(self, layer: Any, features_NCP: Float[Tensor, "N C P"], valid_N1P: Bool[Tensor, "N 1 P"]) -> Tensor:
        embedded_NCP = features_NCP.masked_fill(~valid_N1P, 0)
        alone = process_count() == 1 or embedded_NCP.is_cuda  # on GPUs, torch synchronises BatchNorm
        for part in layer.conv:
            is_norm = isinstance(part, nn.BatchNorm1d)
            embedded_NCP = normalise_slots(part, embedded_NCP) if is_norm and not alone else part(embedded_NCP)
        return embedded_NCP
