"""A backbone as stages that write nodes; what all networks share."""

from typing import Any, ClassVar

import torch
from torch import nn

from phaze_ee.export.graph import Graph
from phaze_ee.export.layers import on_rows
from phaze_ee.export.shaping import cat
from phaze_ee.export.states import FileState, OneJet
from phaze_ee.export.values import Value
from phaze_ee.models.backbone import Stages
from phaze_ee.models.merged import in_their_order
from phaze_ee.shapes import Int


class FileStages(Stages[FileState]):
    """The stages of a network, written into a file. Every network has its own class and is constructed in one way.

    Args:
        graph: the file.
        backbone: the network, in evaluation mode.

    Attributes:
        reads: the kinds of inputs that the file has: points, features, vectors, mask.
        opset: the version of the standard operators that suits the network. ONNX Runtime 1.10 knows 15, 1.12 knows 17.
    """

    reads: ClassVar[tuple[str, ...]] = ("points", "features", "mask")
    opset: ClassVar[int] = 15

    def __init__(self, graph: Graph, backbone: Any) -> None:
        super().__init__()
        self.graph = graph
        self._network = (backbone,)  # not as a module of this one: its parameters are not those of the file
        self.num_classes = backbone.num_classes
        self.input_channels = backbone.input_channels
        self.stage_channels = backbone.stage_channels
        self.collections = backbone.collections

    @property
    def answers_depend_on_batch(self) -> bool:
        """Whether the engine's answer for a jet depends on the other jets of its batch; in a file it does not."""
        return False

    @property
    def neighbours(self) -> tuple[int, ...]:
        """The numbers of particles at which the network changes what it does."""
        return ()

    @property
    def network(self) -> Any:
        """The backbone."""
        return self._network[0]

    def embed(self, inputs: Any) -> FileState:
        """Return the state before stage 0. The inputs are a state with the features, and the other kinds beside."""
        state: FileState = inputs
        return self._together(state) if self.collections else state

    def embedding(self, layer: Any) -> list[nn.Module]:
        """Return the layers of the embedding of a collection, each of which acts on rows."""
        raise NotImplementedError

    def _together(self, state: FileState) -> FileState:
        """Return a jet of one collection, which has the embedded particles of all."""
        parts = [state, *in_their_order(self.collections, state.more)]
        layers = self.network.mod.embeddings
        rows = [_embedded(self.embedding(layer), part.rows_VC) for layer, part in zip(layers, parts, strict=True)]
        others = {kind: cat([part.others[kind] for part in parts]) for kind in state.others}
        count = state.total_count
        return FileState(cat(rows), OneJet(count, count), others)

    def stage_macs(self, index: int, particle_count_N: Int[Any, " N"]) -> Any:
        return self.network.stage_macs(index, particle_count_N)

    def readout_macs(self, particle_count_N: Int[Any, " N"]) -> Any:
        return self.network.readout_macs(particle_count_N)


def _embedded(layers: list[nn.Module], row_VC: Value) -> Value:
    # One row more: a jet may have no particle of this collection.
    padded = cat([row_VC, torch.zeros(1, row_VC.shape[1] or 0)])
    return on_rows(layers, padded)[:-1]
