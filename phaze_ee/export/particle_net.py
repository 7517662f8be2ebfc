"""ParticleNet in a file: EdgeConv blocks with the folded weights of the packed form."""

from dataclasses import replace
from typing import Any, ClassVar, final

import torch
from torch import nn

from phaze_ee.export.functions import matmul
from phaze_ee.export.graph import Graph
from phaze_ee.export.operations import binary, cast, reduce, top
from phaze_ee.export.shaping import cat, gather, permute, reshape, unsqueeze
from phaze_ee.export.stages import FileStages
from phaze_ee.export.states import FileState
from phaze_ee.export.values import Scaled, Value, constant, integers, node
from phaze_ee.models.particle_net.folding import Affine, FoldedEdgeConv, fold

_FAR = 1e30  # the "distance" of a particle from itself: it is never its own neighbour


@final
class FileParticleNet(FileStages):
    """The network of :class:`phaze_ee.models.particle_net.packed.PackedParticleNet`.

    Without ``use_counts`` the network averages over slots. Here they are the slots of the jet itself, as if it were
    alone in its batch.
    """

    name: ClassVar[str] = "ParticleNet"

    def __init__(self, graph: Graph, backbone: Any) -> None:
        super().__init__(graph, backbone)
        self.weights = fold(backbone.core, backbone.input_channels)

    @property
    def answers_depend_on_batch(self) -> bool:
        return not self.network.core.use_counts

    @property
    def neighbours(self) -> tuple[int, ...]:
        return tuple(block.k for block in self.weights.edge_convs)

    def embedding(self, layer: Any) -> list[nn.Module]:
        return [layer.conv]

    def embed(self, inputs: Any) -> FileState:
        state = super().embed(inputs)
        if not self.network.core.use_fts_bn:
            return state
        weights = self.weights
        return replace(state, rows_VC=Scaled(state.rows_VC, weights.feature_scale_C, weights.feature_shift_C))

    def stage(self, index: int, state: FileState) -> FileState:
        block = self.weights.edge_convs[index]
        x_VC: Any = state.rows_VC
        if index == 0:
            state = state.with_others(**_point_distances(state))
        neighbour_Vk = _neighbours(state, block.k, first=index == 0)
        own, other, shortcut_VC = _particle_parts(block, x_VC)
        # Row V is what a missing neighbour adds: zero, as its features are.
        other_SC = cat([matmul(x_VC, other), constant(self.graph, torch.zeros(1, block.channels))])
        edge_VkC: Any = (gather(other_SC, neighbour_Vk) + own(x_VC)[:, None]).relu()
        if block.per_edge:
            edge_EC: Any = reshape(edge_VkC, -1, block.channels)
            for layer in block.per_edge:
                edge_EC = layer(edge_EC).relu()
            edge_VkC = reshape(edge_EC, -1, block.k, block.outputs)
        features_VC: Any = (reduce("ReduceSum", edge_VkC, 1) + shortcut_VC).relu()  # 1/k is in the last layer
        if self.weights.fusion is not None:
            state = state.with_others(**{f"block_{index}": features_VC})
        return replace(state, rows_VC=features_VC)

    def readout(self, state: FileState) -> Any:
        if self.weights.fusion is not None:
            blocks = [state.others[f"block_{index}"] for index in range(len(self.stage_channels))]
            together_VC: Any = cat(blocks, dim=1)
            fused_VC: Any = self.weights.fusion(together_VC)
            state = replace(state, rows_VC=fused_VC.relu())
        answer: Any = state.pool("mean") if self.network.core.use_counts else self._mean_over_slots(state)
        first, *others = self.weights.per_jet
        answer = first(answer)
        for layer in others:
            answer = layer(answer.relu())
        return answer

    def _mean_over_slots(self, state: FileState) -> Value:
        slots = binary("Max", state.slots, integers(self.graph, self.network.minimum_length))
        return binary("Div", reduce("ReduceSum", state.rows_VC, 0, keepdim=True), cast(slots, self.graph.dtype))


def _particle_parts(block: FoldedEdgeConv, x_VC: Any) -> tuple[Affine, Any, Any]:
    """Return the layer of a particle's own part of an edge, the weight of its part as a neighbour, and the shortcut."""
    weight, bias = block.per_particle.weight, block.per_particle.bias
    own = Affine(weight[:, : block.channels], bias[: block.channels])
    after = 2 * block.channels
    shortcut: Any = Affine(weight[:, after:], bias[after:])(x_VC) if block.has_shortcut_layer else x_VC
    return own, weight[:, block.channels : after], shortcut


def _neighbours(state: FileState, k: int, *, first: bool) -> Value:
    """Return the rows (V, k) of the k nearest other particles; V where a jet has fewer."""
    graph, count = state.rows_VC.graph, state.count
    distance_VV = state.others["distance"] if first else _feature_distance(state)
    found = node(graph, "Min", count - 1, integers(graph, k), shape=(1,))
    nearest_VF = top(distance_VV, found, dim=1, largest=False, sorted=False).indices
    pads = cat([integers(graph, 0, 0, 0), binary("Sub", integers(graph, k), found)])
    scalar = node(graph, "Squeeze", count, shape=())
    return node(graph, "Pad", nearest_VF, pads, scalar, shape=(None, k))


def _point_distances(state: FileState) -> dict[str, Value]:
    """Return (Δη)² + (Δφ)², in which no particle is near itself, and what makes it so.

    Particles may be so close that |x|² − 2 x·y + |y|² would round too much.
    """
    graph, point_2V = state.rows_VC.graph, permute(state.others["points"], 1, 0)
    difference_2VV = unsqueeze(point_2V, 2) - unsqueeze(point_2V, 1)
    distance_VV = reduce("ReduceSumSquare", difference_2VV, 0)
    (name,) = graph.node("EyeLike", distance_VV.name)
    diagonal_VV = Value(graph, name, (None, None), graph.dtype) * _FAR
    return {"diagonal": diagonal_VV, "distance": distance_VV + diagonal_VV}


def _feature_distance(state: FileState) -> Value:
    """Return |x_i − x_j|² without |x_i|², which is the same for all j."""
    x_VC = state.rows_VC
    offset_VV = state.others["diagonal"] + reduce("ReduceSumSquare", x_VC, 1)
    return node(x_VC.graph, "Gemm", x_VC, x_VC, offset_VV, shape=(None, None), alpha=-2.0, transB=1)
