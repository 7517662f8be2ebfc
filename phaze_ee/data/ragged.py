"""From a table of columns to the numbers that weaver would pad, without padding."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from weaver.utils.data.config import DataConfig
from weaver.utils.data.tools import _fused_pad_and_stack

from phaze_ee.types import RaggedJets


class _Lists(NamedTuple):
    """The columns of the inputs, particle after particle; the particles of a jet end where the next offset begins."""

    values_V: dict[str, npt.NDArray[Any]]
    offsets: npt.NDArray[np.int64]


class _Rows(NamedTuple):
    """Channels (C, V) of particles, and how many each jet has (N)."""

    values_CV: Tensor
    count_N: Tensor


def ragged_jets(table: ak.Array, config: DataConfig, groups: Mapping[str, str]) -> RaggedJets | None:
    """Return the jets of a table, each with its first P particles at most, or None where only padding can say more.

    That is so without a group of kind ``mask``, where every slot counts, and where the inputs are not all lists of the
    same lengths. The numbers are bit for bit those of the padded form.

    Args:
        table: the selected rows with all variables of the input groups.
        config: weaver's configuration: standardisation and P.
        groups: the input group of each kind.
    """
    lists = _lists(table, list(config.preprocess_params)) if "mask" in groups else None
    if lists is None:
        return None
    rows = {kind: _prepared(lists, config, group).T.contiguous() for kind, group in groups.items()}
    count_N = np.diff(lists.offsets)
    length = config.input_shapes[groups["features"]][2]
    keep_V = (_positions(lists) < length) & (rows.pop("mask")[:, 0] != 0).numpy()
    if not keep_V.all():
        jet_V = np.repeat(np.arange(len(count_N)), count_N)
        count_N = np.bincount(jet_V[keep_V], minlength=len(count_N))
        rows = {kind: row_VC[torch.from_numpy(keep_V)] for kind, row_VC in rows.items()}
    return RaggedJets(rows["points"], rows["features"], rows.get("vectors"), torch.from_numpy(count_N))


def standardised(table: ak.Array, config: DataConfig, groups: Mapping[str, str], length: int) -> _Rows | None:
    """Return the channels of the first ``length`` particles of each jet, group after group, standardised and clipped.

    None where the inputs are not all lists of the same lengths.
    """
    lists = _lists(table, list(config.preprocess_params))
    if lists is None:
        return None
    values_CV = torch.cat([_prepared(lists, config, group) for group in groups.values()])
    count_N = np.diff(lists.offsets)
    if count_N.max(initial=0) > length:
        values_CV = values_CV[:, torch.from_numpy(_positions(lists) < length)]
        count_N = np.minimum(count_N, length)
    return _Rows(values_CV, torch.from_numpy(count_N))


def _positions(lists: _Lists) -> npt.NDArray[np.int64]:
    """Return the place of each particle in its jet."""
    places: npt.NDArray[np.int64] = np.arange(lists.offsets[-1]) - np.repeat(lists.offsets[:-1], np.diff(lists.offsets))
    return places


def _lists(table: ak.Array, names: list[str]) -> _Lists | None:
    """Return the content of columns that are lists of the same lengths; None if they are not."""
    values: dict[str, npt.NDArray[Any]] = {}
    offsets: npt.NDArray[np.int64] | None = None
    for name in names:
        layout = ak.to_packed(table[name]).layout  # a selection may have left an index or a gap
        if not isinstance(layout, ak.contents.ListOffsetArray) or not isinstance(
            layout.content, ak.contents.NumpyArray
        ):
            return None
        own = np.asarray(layout.offsets.data)
        if offsets is not None and not np.array_equal(own, offsets):
            return None
        values[name], offsets = np.asarray(layout.content.data), own
    return None if offsets is None else _Lists(values, offsets.astype(np.int64, copy=False))


def _prepared(lists: _Lists, config: DataConfig, group: str) -> Tensor:
    """Return the particles of a group, (C, V), standardised and clipped.

    weaver does that while it pads. Here it sees one jet that holds all particles and that needs no padding.
    """
    names = config.input_dicts[group]
    count = int(lists.offsets[-1])
    one_jet = {name: ak.unflatten(lists.values_V[name], [count]) for name in names}
    params = {name: {**config.preprocess_params[name], "length": count, "pad_mode": "constant"} for name in names}
    stacked_1CV = _fused_pad_and_stack(one_jet, names, params)
    return torch.from_numpy(stacked_1CV[0])
