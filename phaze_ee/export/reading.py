"""The inputs of a file: padded jets, of which only the real particles are used."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from onnx import ValueInfoProto

from phaze_ee.errors import UsageError
from phaze_ee.export.graph import Graph, value_info
from phaze_ee.export.operations import binary, cast, reduce, shape_of
from phaze_ee.export.shaping import cat, permute, reshape
from phaze_ee.export.stages import FileStages
from phaze_ee.export.states import FileState, ManyJets, OneJet
from phaze_ee.export.values import Later, Transposed, Value, constant, integers, node

_CHANNELS = {"points": 2, "vectors": 4, "mask": 1}


class FileInputs(NamedTuple):
    """The descriptions of the inputs, and the jets as the network gets them."""

    inputs: list[ValueInfoProto]
    state: FileState


def read_jets(
    graph: Graph, stages: FileStages, names: Mapping[str, str], more: Mapping[str, Mapping[str, str]], *, one_jet: bool
) -> FileInputs:
    """Write the reading of the inputs that a network uses, each (N, C, P).

    Args:
        graph: the file.
        stages: the network.
        names: the name of each kind of input.
        more: the same of further collections, by their names.
        one_jet: whether N is 1, so that ONNX Runtime refuses several jets.

    Raises:
        UsageError: an input that the network uses has no name.
    """
    first, *others = stages.collections.values() or [stages.input_channels]
    if len(others) != len(more):
        raise UsageError(
            f"{stages.name} takes {len(others) + 1} collections of particles and the inputs have {len(more) + 1}"
        )
    read = partial(_collection, graph, stages, one_jet=one_jet)
    inputs, state = read(names, first, "P")
    further = {
        name: read(own, channels, f"P_{name}") for (name, own), channels in zip(more.items(), others, strict=True)
    }
    infos = [info for part in further.values() for info in part.inputs]
    return FileInputs([*inputs, *infos], replace(state, more={name: part.state for name, part in further.items()}))


def _collection(
    graph: Graph, stages: FileStages, names: Mapping[str, str], feature_count: int, length: str, *, one_jet: bool
) -> FileInputs:
    """Return one collection; ``length`` is the name of its number of slots, which differs from that of others."""
    number = 1 if one_jet else None
    values = {}
    infos = []
    for kind in stages.reads:
        if kind not in names:
            raise UsageError(
                f"a file of {stages.name} needs an input group *_{kind} and the data configuration has none; add one "
                "and train again"
            )
        channels = _CHANNELS.get(kind, feature_count)
        values[kind] = Value(graph, names[kind], (number, channels, None), graph.dtype)
        infos.append(value_info(names[kind], graph.dtype, [number or "N", channels, length]))
    read = _one_jet if one_jet else _many_jets
    return FileInputs(infos, read(values, values.pop("mask")))


def _one_jet(values: Mapping[str, Value], mask: Value) -> FileState:
    valid_P = cast(reshape(mask, -1), torch.bool)

    def columns(value: Value) -> Value:
        channels = value.shape[1] or 0
        slot_CP = reshape(value, channels, -1)
        return node(value.graph, "Compress", slot_CP, valid_P, shape=(channels, None), axis=1)

    others = {
        kind: Transposed(Later(value, (value.shape[1], None), partial(columns, value)))
        for kind, value in values.items()
        if kind != "features"
    }
    feature_CV = columns(values["features"])

    def slots() -> Value:
        # One empty slot more: a jet may have none.
        return binary(
            "Add", _last(cat([cast(valid_P, torch.int64), integers(mask.graph, 0)]), 0), integers(mask.graph, 1)
        )

    count = shape_of(feature_CV, 1, 2)
    return FileState(Transposed(feature_CV), OneJet(count, Later(count, (1,), slots)), others)


def _many_jets(values: Mapping[str, Value], mask: Value) -> FileState:
    graph = mask.graph
    valid_S = cast(reshape(mask, -1), torch.bool)
    rows = {}
    for kind, value in values.items():
        channels = value.shape[1] or 0
        row_SC = reshape(permute(value, 0, 2, 1), -1, channels)
        real_VC = node(graph, "Compress", row_SC, valid_S, shape=(None, channels), axis=0)
        rows[kind] = cat([real_VC, torch.zeros(1, channels)])
    # One empty jet and one empty slot more: old versions of ONNX Runtime fail, or even end the process, on none.
    mask_NP = node(graph, "Squeeze", mask, integers(graph, 1), shape=(None, None))
    padded_NP = node(graph, "Pad", mask_NP, integers(graph, 0, 0, 1, 1), shape=(None, None))
    valid_NP = cast(padded_NP, torch.bool)
    count_N = reduce("ReduceSum", cast(valid_NP, torch.int64), 1)
    end_N = node(graph, "CumSum", count_N, constant(graph, 0, torch.int64), shape=count_N.shape)
    slots_N = binary("Add", _last(valid_NP, 1), integers(graph, 1))
    return FileState(rows.pop("features"), ManyJets(valid_NP, count_N, end_N, slots_N), rows)


def _last(valid: Value, axis: int) -> Value:
    """Return the place of the last True along a dimension."""
    number = cast(valid, torch.int64)
    shape = (1,) if axis == 0 else (None,)
    settings = {"axis": axis, "keepdims": int(axis == 0), "select_last_index": 1}
    return node(number.graph, "ArgMax", number, shape=shape, dtype=torch.int64, **settings)
