"""ParticleNet with its EdgeConv blocks in C++."""

from typing import Any, final

from jaxtyping import Float
from torch import Tensor

from phaze_ee.models.folding import FoldedParticleNet
from phaze_ee.models.native.kernel import EdgeConvKernel, library
from phaze_ee.models.packed import PackedState
from phaze_ee.models.packed_particle_net import PackedParticleNet


@final
class NativeParticleNet(PackedParticleNet):
    """The packed form, over the same module and parameters; in inference its blocks run in a C++ kernel on the CPU.

    Raises:
        UsageError: there is no C++ compiler, or it fails; later, if the network is on another device than the CPU, or
            neither in float32 nor in float64.
    """

    def __init__(self, mod: Any) -> None:
        super().__init__(mod)
        library()  # what is missing shows here, not at the first jet
        self._kernels: tuple[FoldedParticleNet | None, tuple[EdgeConvKernel, ...]] = (None, ())

    def infer_block(self, index: int, state: PackedState) -> Float[Tensor, "V C"]:
        folded = self._fold()
        made_from, kernels = self._kernels
        if made_from is not folded:
            kernels = _make_kernels(folded)
            self._kernels = (folded, kernels)
        return kernels[index](state.features_VC, state.coordinates_VD, state.layout.count_N)


def _make_kernels(folded: FoldedParticleNet) -> tuple[EdgeConvKernel, ...]:
    # The first block searches among the points, the others among the features that they get.
    dimensions = (2, *(block.per_particle.weight.shape[0] for block in folded.edge_convs[1:]))
    return tuple(map(EdgeConvKernel, folded.edge_convs, dimensions))
