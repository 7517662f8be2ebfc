"""ParticleNet on particles without padding, with BatchNorm folded into the layers in inference."""

from dataclasses import replace
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor

from phaze_ee.models.folded import Folded
from phaze_ee.models.particle_net.edge_conv import edge_conv
from phaze_ee.models.particle_net.folding import FoldedParticleNet, fold
from phaze_ee.models.particle_net.native.kernel import EdgeConvKernel, library
from phaze_ee.models.particle_net.neighbours import nearest_neighbours
from phaze_ee.models.particle_net.stages import StagedParticleNet
from phaze_ee.models.particle_net.training import edge_conv_training, layer_training, normalise_slots
from phaze_ee.models.states import JetLayout, PackedState, beside, pool_rows
from phaze_ee.shapes import Float
from phaze_ee.types import Jets


class PackedParticleNet(StagedParticleNet[PackedState]):
    """The network of :class:`phaze_ee.models.particle_net.padded.ParticleNet`, over the same module and parameters.

    In evaluation without gradients, it uses folded weights, which are computed again when a parameter has changed.
    Otherwise it differentiates through the parameters.
    """

    packs_particles: ClassVar[bool] = True

    def __init__(self, mod: Any) -> None:
        super().__init__(mod)
        self._folding: Folded[FoldedParticleNet] | None = None  # replaced as a whole, because threads share it

    @property
    def waits(self) -> bool:
        from phaze_ee.kernels.neighbours import MOST_NEIGHBOURS

        # For the slots of each collection, or for the longest jet where neighbours are searched in plain torch.
        keeps_slots = bool(self.collections) and not self.core.use_counts
        return keeps_slots or any(block.k > MOST_NEIGHBOURS for block in self.core.edge_convs)

    @property
    def kept(self) -> object:
        return self._folding

    def packed(self) -> Self:
        return self

    def native(self) -> "NativeParticleNet":
        return NativeParticleNet(self.mod).train(self.training)

    def train(self, mode: bool = True) -> Self:
        self._folding = None
        return super().train(mode)

    def embed(self, inputs: Jets) -> PackedState:
        if self._differentiates():
            padded, particles = self.trim(inputs)
            # As in weaver, bn_fts sees the padded tensor: its statistics include the padded slots.
            features = normalise_slots(self.core.bn_fts, padded.features) if self.core.use_fts_bn else padded.features
            jets = replace(padded, features=features, vectors=None).ragged(particles)
            length = features.shape[-1]
            return PackedState(jets.features_VC, jets.points_V2, JetLayout(jets.particle_count_N), length)
        folded = self._fold(check=True)
        together = self.together(inputs)
        jets = together.ragged()
        features_VC = torch.addcmul(folded.feature_shift_C, jets.features_VC, folded.feature_scale_C)
        length = self.minimum_length if self.core.use_counts else max(together.used_length, self.minimum_length)
        return PackedState(features_VC, jets.points_V2, JetLayout(jets.particle_count_N), length)

    def stage(self, index: int, state: PackedState) -> PackedState:
        if self._differentiates():
            block = self.core.edge_convs[index]
            neighbour_Vk = nearest_neighbours(state.coordinates_VD, state.layout, block.k)
            features_VC = edge_conv_training(block, state, neighbour_Vk)
        else:
            features_VC = self.infer_block(index, state)
        earlier = (*state.earlier, features_VC) if self.core.use_fusion else ()
        return PackedState(features_VC, features_VC, state.layout, state.length, earlier)

    def infer_block(self, index: int, state: PackedState) -> Float[Tensor, "V C"]:
        """Return the features after an EdgeConv block, without gradients."""
        block = self._fold().edge_convs[index]
        neighbour_Vk = nearest_neighbours(state.coordinates_VD, state.layout, block.k)
        return edge_conv(block, state.features_VC, neighbour_Vk)

    def readout(self, state: PackedState, globals_NG: Tensor | None = None) -> Float[Tensor, "N K"]:
        features_VC = self._fuse(state) if self.core.use_fusion else state.features_VC
        if self.core.use_counts:
            pooled_NC = pool_rows(features_VC, state.layout, "mean")
        else:
            pooled_NC = pool_rows(features_VC, state.layout, "sum") / state.length
        pooled_NC = beside(pooled_NC, globals_NG)
        if self._differentiates():
            logits: Tensor = self.core.fc(pooled_NC)
            return logits
        first, *others = self._fold().per_jet
        answer_NC = first(pooled_NC)
        for layer in others:
            answer_NC = layer(answer_NC.relu_())
        return answer_NC

    def _fuse(self, state: PackedState) -> Float[Tensor, "V C"]:
        together_VC = torch.cat(state.earlier, dim=1)
        if self._differentiates():
            convolution, norm, activation = self.core.fusion_block
            fused_VC: Tensor = activation(layer_training(convolution, norm, together_VC, state))
            return fused_VC
        fusion = self._fold().fusion
        assert fusion is not None
        return fusion(together_VC).relu_()

    def _differentiates(self) -> bool:
        return self.training or (torch.is_grad_enabled() and any(weight.requires_grad for weight in self.parameters()))

    def _fold(self, check: bool = False) -> FoldedParticleNet:
        """Return the folded weights. With ``check``, they are up to date; :meth:`embed` checks once in every walk."""
        folding = self._folding
        if folding is None or (check and not folding.is_current):
            folding = self._folding = Folded.of(self.core, lambda: fold(self.core, self.input_channels))
        return folding.weights  # not the attribute, which another thread may have cleared


@final
class NativeParticleNet(PackedParticleNet):
    """The packed form with EdgeConv blocks in C++, for inference on the CPU.

    Args:
        mod: weaver's module.

    Raises:
        UsageError: there is no C++ compiler, or it fails; in a walk: the network is not on the CPU, or not in float32
            or float64.
    """

    def __init__(self, mod: Any) -> None:
        super().__init__(mod)
        library()  # an error is raised here, not at the first jet
        self._kernels: tuple[FoldedParticleNet | None, tuple[EdgeConvKernel, ...]] = (None, ())

    def infer_block(self, index: int, state: PackedState) -> Float[Tensor, "V C"]:
        folded = self._fold()
        made_from, kernels = self._kernels
        if made_from is not folded:
            # The first block searches in the points, the others in their input features.
            dimensions = (2, *(block.per_particle.weight.shape[0] for block in folded.edge_convs[1:]))
            kernels = tuple(map(EdgeConvKernel, folded.edge_convs, dimensions))
            self._kernels = (folded, kernels)
        return kernels[index](state.features_VC, state.coordinates_VD, state.layout.count_N)
