"""The common base of all forms of ParticleNet: the module of weaver-core, its arguments, trimming and cost."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Self

from torch import Tensor, nn
from weaver.nn.model.ParticleNet import ParticleNet as WeaverParticleNet

from phaze_ee.models.backbone import StateT
from phaze_ee.models.merged import MergedNetwork, MergingBackbone
from phaze_ee.models.particle_net.merged import MergedParticleNet
from phaze_ee.models.weaver import Trimmed, built_again, is_head, refuse, trim
from phaze_ee.shapes import Int
from phaze_ee.types import Jets


class StagedParticleNet(MergingBackbone[StateT]):
    """Stages around weaver-core's ParticleNet (arXiv:1902.08570), held as ``mod`` as in published checkpoints.

    With several collections, ``mod`` has the layers of weaver's ParticleNetTagger.
    """

    name: ClassVar[str] = "ParticleNet"
    has_packed_form: ClassVar[bool] = True
    weaver_class: ClassVar[type[nn.Module] | None] = WeaverParticleNet
    merged_class: ClassVar[type[MergedNetwork]] = MergedParticleNet
    packs_particles: ClassVar[bool]  # no padding, and the first edge layer evaluated per particle

    def __init__(self, mod: WeaverParticleNet | MergedParticleNet) -> None:
        super().__init__(mod)
        core = self.core
        self.stage_channels = tuple(int(block.convs[-1].out_channels) for block in core.edge_convs)
        self.input_channels = int(core.edge_convs[0].convs[0].in_channels) // 2
        self.num_classes = int(core.fc[-1].out_features)
        self.minimum_length = 1 + max(int(block.k) for block in core.edge_convs)

    @classmethod
    def from_weaver(cls, module: Any) -> Self:
        networks = [part for part in module.modules() if isinstance(part, WeaverParticleNet)]
        unknown = not all(is_head(part.fc, nn.ReLU) for part in networks)
        refuse(cls.name, {"its fc is not hidden layers with ReLU and Dropout, then a Linear": unknown})
        backbone = super().from_weaver(module)
        built_again(backbone.core, backbone.core_arguments)
        return backbone

    @property
    def core_arguments(self) -> Mapping[str, Any]:
        core = self.core
        hidden: list[Any] = [layer for layer in core.fc if isinstance(layer, nn.Sequential)]
        return {
            "input_dims": self.input_channels,
            "num_classes": self.num_classes,
            "conv_params": [
                [int(block.k), [int(conv.out_channels) for conv in block.convs]] for block in core.edge_convs
            ],
            "fc_params": [[int(layer[0].out_features), float(layer[2].p)] for layer in hidden],
            "use_fusion": bool(core.use_fusion),
            "use_fts_bn": bool(core.use_fts_bn),
            "use_counts": bool(core.use_counts),
            **({"trim": False} if self.collections else {}),
        }

    @property
    def readout_layers(self) -> nn.Module:
        layers: nn.Module = self.core.fc
        return layers

    def trim(self, inputs: Jets) -> Trimmed:
        """Pad jets as :func:`phaze_ee.models.weaver.trim` does, without their vectors, which no layer uses."""
        without = self.together(inputs)
        return trim(without, self.core.trimmer, training=self.training, minimum_length=self.minimum_length)

    def together(self, inputs: Jets) -> Jets:
        """Return jets of one collection, without their vectors."""
        return self.merged(inputs.without_vectors(), keep_slots=not self.core.use_counts)

    def stage_macs(self, index: int, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        block = self.core.edge_convs[index]
        channels = [int(convolution.out_channels) for convolution in block.convs]
        input_channels = int(block.convs[0].in_channels) // 2
        coordinates = 2 if index == 0 else input_channels
        shortcut = 0 if block.sc is None else input_channels * channels[-1]
        first_layer = 2 * input_channels * channels[0] * (1 if self.packs_particles else block.k)
        other_layers = block.k * sum(before * after for before, after in pairwise(channels))
        slots_N = self._slots(particle_count_N)
        macs_N: Tensor = slots_N * (slots_N * coordinates + (shortcut + first_layer + other_layers))
        return macs_N

    def readout_macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        layers = [layer for layer in self.core.fc.modules() if isinstance(layer, nn.Linear)]
        per_jet = sum(layer.in_features * layer.out_features for layer in layers)
        per_particle = self.core.fusion_block[0].weight.numel() if self.core.use_fusion else 0
        return self._slots(particle_count_N) * per_particle + per_jet

    def _slots(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        return particle_count_N if self.packs_particles else particle_count_N.clamp(min=self.minimum_length)
