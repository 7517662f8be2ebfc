"""From rows of a file to jets: selection, new variables, labels, checks and standardisation, as weaver does them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Self

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch
from weaver.utils.data.config import DataConfig
from weaver.utils.data.tools import _clip, _fused_pad_and_stack
from weaver.utils.dataset import _finalize_inputs

from phaze_ee.compiled import without_extensions
from phaze_ee.data.branches import columns_for, weight_names
from phaze_ee.data.evaluation import names_in
from phaze_ee.data.inputs import Lists, checked_lists, one_number_a_jet
from phaze_ee.data.jet_columns import InputLayout, JetColumns, ParticleColumns
from phaze_ee.data.labels import class_of_jets, known_class_of_jets, label_variables
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.sources import Source
from phaze_ee.data.table import (
    ROW,
    Span,
    check_columns,
    check_complete,
    check_given,
    check_per_jet,
    holds_all,
    numbers_of,
    selected_table,
)
from phaze_ee.data.targets import TARGET, targets_of_jets
from phaze_ee.data.weights import jet_weights
from phaze_ee.errors import DataError
from phaze_ee.input_groups import InputCollection
from phaze_ee.shapes import Float


@dataclass(frozen=True)
class SpanJets:
    """The selected jets of a span of rows.

    ``row_N`` are the rows of the file where they are. ``weight_N`` are their sampling weights; None: they have none,
    or the purpose is evaluation. ``bad`` counts inputs that were NaN or infinite and may pass.
    """

    jets: JetColumns
    row_N: npt.NDArray[np.int64]
    weight_N: npt.NDArray[np.float32] | None = None
    bad: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.row_N)

    @classmethod
    def concatenate(cls, parts: Sequence["SpanJets"]) -> "SpanJets":
        """Return all jets of some parts of a file, without their weights."""
        jets = JetColumns.concatenate([part.jets for part in parts])
        return cls(jets, np.concatenate([part.row_N for part in parts]))

    def take(self, index_N: slice) -> "SpanJets":
        """Return the jets that a slice names, without their weights."""
        return SpanJets(self.jets.take(index_N), self.row_N[index_N])


class RowReader:
    """Turns rows of files into jets for training or evaluation.

    Args:
        schema: the data configuration.
        training: apply ``selection`` and read sampling weights; otherwise apply ``test_time_selection`` and read
            observers.
        labelled: read labels; otherwise ``label_N`` is -1.
        lenient: ``label_N`` is -1 where the labels name no class; otherwise that is an error.
    """

    def __init__(self, schema: DataSchema, *, training: bool, labelled: bool = True, lenient: bool = False) -> None:
        self.schema, self.training = schema, training
        self.labelled, self.lenient = labelled, lenient

    @classmethod
    def of_file(cls, schema: DataSchema, path: Path) -> Self:
        """Return a reader for scores, which need no labels: it reads them if the file has all of their columns.

        Raises:
            DataError: the file cannot be read.
        """
        labelled = holds_all(schema.weaver, path, label_variables(schema.labels))
        return cls(schema, training=False, labelled=labelled, lenient=True)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("schema", "training", "labelled", "lenient")}

    @cached_property
    def config(self) -> DataConfig:
        """weaver's configuration for this purpose."""
        return self.schema.config_for(training=self.training, labelled=self.labelled)

    @cached_property
    def layouts(self) -> tuple[InputLayout, ...]:
        """The variables of each collection."""
        return InputLayout.all_of(self.schema)

    @property
    def selection(self) -> str | None:
        """The expression that jets must pass; None: all pass."""
        expression: str | None = self.config.selection if self.training else self.config.test_time_selection
        return expression

    @property
    def has_weights(self) -> bool:
        """Whether jets have sampling weights."""
        return self.config.weight_name is not None

    def check(self, source: Source, path: Path) -> None:
        """Refuse a file that lacks a branch, before any of its rows is read.

        Raises:
            DataError: so it is.
        """
        inputs, cuts = {*self.config.preprocess_params, *self._side_names}, names_in(self.selection or "0")
        check_columns(self.config, source, path, {*inputs, *cuts, *self._label_names})

    def read(self, span: Span) -> SpanJets:
        """Return the selected jets of some rows, in file order.

        Raises:
            DataError: the file cannot be read or lacks a branch, an expression fails, labels are not one-hot, an input
                is not one finite number per real particle, or a target not one finite number; or the standardisation is
                not computed yet.
        """
        if self.schema.needs_standardisation:
            raise DataError("the data config asks for automatic standardisation, which only training files can give")
        names = {*self.config.preprocess_params, *self._side_names}
        table = self._table(span, names, columns_for(self.config, self._label_names)[0])
        table["_label_"] = self._classes(table, span.path)
        names_of_each = [layout.variables for layout in self.layouts if not layout.is_globals]
        for layout in self.layouts[len(names_of_each) :]:
            _check_globals(table, layout.variables, span.path)
        inputs = ak.Array(table)  # shares the columns; observers and weights stay as they are in the file
        lists, bad = checked_lists(
            inputs, names_of_each, self.config.preprocess_params, self.schema.bad_values, span.path
        )
        weight_N = jet_weights(table, self.config, span.path) if self.has_weights else None
        observers = {**self._observers(table, span.path), **self._target_columns(table, span.path)}
        label_N = torch.from_numpy(ak.to_numpy(table["_label_"]))
        jets = JetColumns(self._particles(inputs, lists, span.path), label_N, observers)
        return SpanJets(jets, ak.to_numpy(table[ROW]), weight_N, bad)

    def classes(self, span: Span) -> npt.NDArray[np.int64]:
        """Return the classes of the selected jets of some rows; only the columns of labels and selection are read.

        Raises:
            DataError: the file cannot be read or lacks a branch, or labels are not one-hot.
        """
        columns = columns_for(self.config, label_variables(self.schema.labels))[0]
        return self._classes(self._table(span, (), columns), span.path)

    def survey(self, span: Span) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the row numbers of the selected jets and their sampling weights (1 if there are none).

        Raises:
            DataError: the file cannot be read or lacks a branch, or an expression fails.
        """
        table = self._table(span, weight_names(self.config))
        weight_N = (
            jet_weights(table, self.config, span.path) if self.has_weights else np.ones(len(table), dtype=np.float32)
        )
        return ak.to_numpy(table[ROW]), weight_N

    def _table(self, span: Span, names: Iterable[str], columns: Iterable[str] = ()) -> ak.Array:
        return selected_table(self.config, span, names, self.selection, training=self.training, columns=columns)

    @property
    def _label_names(self) -> set[str]:
        return label_variables([*self.schema.labels, *self._targets.values()]) if self.labelled else set()

    @property
    def _side_names(self) -> set[str]:
        return {*weight_names(self.config), *self.config.z_variables}

    def _classes(self, table: ak.Array, path: Path) -> npt.NDArray[np.int64]:
        if not self.labelled:
            return np.full(len(table), -1, dtype=np.int64)
        find = known_class_of_jets if self.lenient else class_of_jets
        return find(self.config, self.schema.labels, table, path)

    def _particles(self, inputs: ak.Array, lists: list[Lists] | None, path: Path) -> tuple[ParticleColumns, ...]:
        numbers = [] if self.schema.globals is None else [_of_jets(inputs, self.config, self.layouts[-1].variables)]
        parts = self._padded(inputs, path) if lists is None else map(self._standardised, lists, self.schema.collections)
        return tuple(
            ParticleColumns.of_rows(layout, part.rows, torch.from_numpy(part.count_N))
            for layout, part in zip(self.layouts, chain(parts, numbers), strict=True)
        )

    def _standardised(self, lists: Lists, collection: InputCollection) -> "_Rows":
        return _standardised(lists, self.config, list(collection.groups.values()))

    def _padded(self, table: ak.Array, path: Path) -> "Iterator[_Rows]":
        """Yield the collections as weaver pads them: every slot counts as a particle, a mask says which are real."""
        count = len(table)
        uses = Counter(name for names in self.config.input_dicts.values() for name in names)
        if max(uses.values()) > 1:  # weaver pads such a variable twice, and then takes no missing numbers
            check_complete(table, [name for layout in self.layouts for name in layout.variables], path)
        output: Mapping[str, Any] = _finalize_inputs(table, self.config)  # changes the table
        for collection in self.schema.collections:
            groups = collection.groups.values()
            channels = (column_NP for group in groups for column_NP in output[f"_{group}"].swapaxes(0, 1))
            yield _Rows([column_NP.reshape(-1) for column_NP in channels], np.full(count, collection.length))

    def _observers(self, table: ak.Array, path: Path) -> dict[str, npt.NDArray[np.generic]]:
        kind = "observer" if self.config.observer_names else "monitor variable"
        return {name: one_number_a_jet(table[name], f"{kind} {name}", path) for name in self.config.z_variables}

    @property
    def _targets(self) -> Mapping[str, str]:
        """The targets that are read: scores need none."""
        return self.schema.targets if self.labelled and not self.lenient else {}

    def _target_columns(self, table: ak.Array, path: Path) -> dict[str, npt.NDArray[np.generic]]:
        if not self._targets:
            return {}
        values = targets_of_jets(self.config, self._targets, table, path)
        return {f"{TARGET}{name}": value_N for name, value_N in values.items()}


class _Rows(NamedTuple):
    """C arrays with the particles of all jets, and the number of particles of each jet."""

    rows: list[Float[np.ndarray, " V"]]
    count_N: npt.NDArray[np.int64]


def _standardised(lists: Lists, config: DataConfig, groups: Sequence[str]) -> _Rows:
    """Return the channels of the first P particles of each jet, group after group, standardised and clipped."""
    rows = [row_V for group in groups for row_V in _prepared(lists, config, group)]
    count_N = np.diff(lists.offsets)
    length = config.input_shapes[groups[0]][2]
    if count_N.max(initial=0) > length:
        place_V = np.arange(lists.offsets[-1]) - np.repeat(lists.offsets[:-1], count_N)
        rows, count_N = [row_V[place_V < length] for row_V in rows], np.minimum(count_N, length)
    return _Rows(rows, count_N)


def _prepared(lists: Lists, config: DataConfig, group: str) -> Float[np.ndarray, "C V"]:
    """Return the particles of a group, standardised and clipped.

    weaver does that while it pads. Here it sees one jet that holds all particles and needs no padding.
    """
    names = config.input_dicts[group]
    count = int(lists.offsets[-1])
    one_jet = {name: ak.unflatten(lists.values_V[name], [count]) for name in names}
    params = {name: {**config.preprocess_params[name], "length": count, "pad_mode": "constant"} for name in names}
    with without_extensions(), np.errstate(over="ignore"):  # a number may be infinite in single precision
        prepared_CV: Float[np.ndarray, "C V"] = _fused_pad_and_stack(one_jet, names, params)[0]
    return prepared_CV


def _check_globals(table: ak.Array, names: Sequence[str], path: Path) -> None:
    for name in names:
        check_per_jet(table, name, path)
        numbers_of(table, name, path)
        check_given(table, name, path)


def _of_jets(table: ak.Array, config: DataConfig, names: Sequence[str]) -> _Rows:
    """Return numbers of the jets themselves, standardised and clipped as weaver does it for inputs without length.

    Integers become floats first: a small or unsigned type cannot hold their distance from the centre.
    """
    rows = []
    for name in names:
        value, own = ak.to_numpy(table[name], allow_missing=False), config.preprocess_params[name]
        if value.dtype.kind != "f":
            value = value.astype(np.float64)
        if own["center"] is not None:
            value = _clip((value - own["center"]) * own["scale"], own["min"], own["max"])
        with np.errstate(over="ignore"):  # infinite in single precision, which the network's answer shows
            rows.append(np.nan_to_num(value).astype(np.float32))
    return _Rows(rows, np.ones(len(table), dtype=np.int64))
