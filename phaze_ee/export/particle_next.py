"""ParticleNeXt in a file: weaver's layers are called with the slots of one jet; edges have patterns of their own."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import nn
from weaver.nn.model.ParticleNeXt import pairwise_lv_fts

from phaze_ee.export.graph import Graph
from phaze_ee.export.layers import on_rows
from phaze_ee.export.operations import binary, reduce
from phaze_ee.export.shaping import cat, gather, permute, reshape, unsqueeze
from phaze_ee.export.stages import FileStages
from phaze_ee.export.states import FileState
from phaze_ee.export.values import Later, Value, constant, integers, node
from phaze_ee.models.particle_next import pair_options

_FAR_AWAY = 1e9  # where weaver puts padding before the neighbour search
_EPSILON = 1e-8


@final
class FileParticleNeXt(FileStages):
    """The network of :class:`phaze_ee.models.particle_next.ParticleNeXt`.

    A jet has at least as many slots P as neighbours; those without a particle are masked, as in weaver.
    """

    name: ClassVar[str] = "ParticleNeXt"

    def __init__(self, graph: Graph, backbone: Any) -> None:
        super().__init__(graph, backbone)
        self.mod = backbone.core
        self.layers = [_in_file(layer) for layer in self.mod.layers]

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        kinds = ("points", "features", "vectors", "mask")
        return kinds if pair_options(self.mod)["use_rel_lv_fts"] else ("points", "features", "mask")

    @property
    def neighbours(self) -> tuple[int, ...]:
        return (int(self.mod.num_neighbors),)

    def embedding(self, layer: Any) -> list[nn.Module]:
        return [layer]

    def stage(self, index: int, state: FileState) -> FileState:
        if index == 0:
            state = self._padded(state)
        others = state.others
        points, features_1CP1 = self.layers[index](
            points=others["slot_points"],
            features=others["slots"],
            lorentz_vectors=others.get("slot_vectors"),
            mask=others["valid"],
            idx=others.get("index"),
            null_edge_pos=others.get("null"),
            edge_inputs=others.get("edges"),
            lvs_ngbs=others.get("neighbour_vectors"),
        )
        rows = Later(features_1CP1, (None, self.stage_channels[index]), partial(_rows, features_1CP1, state.count))
        return replace(state.with_others(slots=features_1CP1, slot_points=points), rows_VC=rows)

    def _padded(self, state: FileState) -> FileState:
        slots = node(self.graph, "Max", state.count, integers(self.graph, int(self.mod.num_neighbors)), shape=(1,))
        fill = partial(_slots, count=state.count, slots=slots)
        valid_11P = (_numbers(slots) < state.count)[None, None]
        points_12P = fill(state.others["points"], filler=_FAR_AWAY)
        encoded_VC = on_rows([self.mod.node_encode], state.rows_VC)
        # weaver encodes the zeros of padding too; no edge to them counts.
        known = {"valid": valid_11P, "slot_points": points_12P, "slots": unsqueeze(fill(encoded_VC), 3)}
        if "vectors" in state.others:
            known["slot_vectors"] = fill(state.others["vectors"])
        if self.mod.knn is not None:
            known["index"] = self.mod.knn(points_12P)
            edges, _, vectors, null = _graph_feature(
                lvs=known.get("slot_vectors"), mask=valid_11P, idx=known["index"], **self.mod.get_graph_feature.keywords
            )
            found = {"null": null, "neighbour_vectors": vectors}
            found["edges"] = None if edges is None else self.mod.edge_encode(edges)
            known |= {name: value for name, value in found.items() if value is not None}
        return state.with_others(**known)

    def readout(self, state: FileState) -> Any:
        row_VC: Any = on_rows([self.mod.post], state.rows_VC)
        kind = self.mod.global_aggregation
        if "attn" in kind:
            score_VA = on_rows([self.mod.sa], row_VC)
            weight_VA = node(self.graph, "Softmax", score_VA, shape=score_VA.shape, axis=0)
            weight_VC = cat([weight_VA] * (self.mod.sa_repeat or 1), dim=1)
            return self.mod.fc(reduce("ReduceSum", binary("Mul", row_VC, weight_VC), 0, keepdim=True))
        pooled: Any = reduce(
            {"max": "ReduceMax", "mean": "ReduceMean", "sum": "ReduceSum"}[kind], row_VC, 0, keepdim=True
        )
        return self.mod.fc(pooled)


def _in_file(layer: Any) -> Callable[..., Any]:
    """Return a copy of a layer that finds its edges with nodes of a file."""
    copied: Any = copy.copy(layer)
    copied.__dict__["get_graph_feature"] = partial(_graph_feature, **layer.get_graph_feature.keywords)
    called: Callable[..., Any] = copied
    return called


def _graph_feature(
    pts: Any = None,
    fts: Any = None,
    lvs: Any = None,
    mask: Any = None,
    edges: None = None,
    idx: Any = None,
    null_edge_pos: Any = None,
    *,
    k: int,
    use_rel_fts: bool = False,
    use_rel_coords: bool = False,
    use_rel_dist: bool = False,
    use_rel_lv_fts: bool = True,
    use_polarization_angle: bool = False,
    cpu_mode: bool = False,
) -> tuple[Any, Any, Any, Any]:
    """Return features of edges (1, C, P, k), as weaver's function of this name, whose arguments these are."""

    def neighbours(slot_1CP: Any) -> Any:
        return gather(slot_1CP, idx[0], axis=2)

    def centre(slot_1CP: Any) -> Any:
        return cat([unsqueeze(slot_1CP, 3)] * k, dim=3)

    if null_edge_pos is None:
        number = neighbours(mask.to(torch.int64)) * mask.to(torch.int64)[..., None]
        null_edge_pos = number == 0
    outputs = []
    rel_coords = lvs_ngbs = None
    if fts is not None:
        outputs += [centre(fts), neighbours(fts) - centre(fts) if use_rel_fts else neighbours(fts)]
    if pts is not None and (use_rel_coords or use_rel_dist):
        rel_coords = neighbours(pts) - pts[..., None]
        if use_rel_dist:
            outputs.append(rel_coords.norm(dim=1, keepdim=True).clamp(min=_EPSILON).log())
    if lvs is not None and use_rel_lv_fts:
        lvs_ngbs = neighbours(lvs)
        outputs.append(pairwise_lv_fts(centre(lvs), lvs_ngbs, use_polarization_angle=use_polarization_angle))
    return (cat(outputs, dim=1) if outputs else None), rel_coords, lvs_ngbs, null_edge_pos


def _numbers(count: Value) -> Value:
    """Return 0, 1, … up to a number (1,)."""
    graph = count.graph
    zero, one = constant(graph, 0, torch.int64), constant(graph, 1, torch.int64)
    stop = node(graph, "Squeeze", count, shape=())
    return node(graph, "Range", zero, stop, one, shape=(None,), dtype=torch.int64)


def _slots(row_VC: Value, *, count: Value, slots: Value, filler: float = 0.0) -> Value:
    """Return rows in slots (1, C, P), with ``filler`` in those without a particle."""
    graph = row_VC.graph
    pads = cat([integers(graph, 0, 0), binary("Sub", slots, count), integers(graph, 0)])
    padded_PC = node(graph, "Pad", row_VC, pads, constant(graph, filler), shape=(None, row_VC.shape[1]))
    return permute(padded_PC, 1, 0)[None]


def _rows(features_1CP1: Value, count: Value) -> Value:
    """Return the real particles (V, C)."""
    channels = features_1CP1.shape[1]
    assert channels is not None
    row_PC = permute(reshape(features_1CP1, channels, -1), 1, 0)
    graph = row_PC.graph
    return node(graph, "Slice", row_PC, integers(graph, 0), count, integers(graph, 0), shape=(None, channels))
