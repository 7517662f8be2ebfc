"""The particle-flow network in a file: its layers are written by being called."""

from typing import Any, ClassVar, final

from phaze_ee.export.stages import FileStages
from phaze_ee.export.states import FileState


@final
class FileParticleFlowNetwork(FileStages):
    """The network of :class:`phaze_ee.models.particle_flow_network.ParticleFlowNetwork`."""

    name: ClassVar[str] = "PFN"
    reads = ("features", "mask")

    def stage(self, index: int, state: FileState) -> FileState:
        return state.map(self.network.particle_layers[index])

    def readout(self, state: FileState) -> Any:
        return self.network.jet_layers(state.pool("mean"))
