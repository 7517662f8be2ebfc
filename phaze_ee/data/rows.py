"""From rows of a file to jets: selection, new variables, labels, checks and padding, as weaver does them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor
from weaver.utils.data.config import DataConfig
from weaver.utils.data.eval_utils import _get_data_var_names
from weaver.utils.data.preprocess import _build_weights
from weaver.utils.dataset import _finalize_inputs

from phaze_ee.data.jet_columns import InputLayout, JetColumns
from phaze_ee.data.ragged import ragged_jets, standardised
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import (
    ROW,
    Span,
    check_finite,
    check_lengths,
    check_one_per_jet,
    evaluate,
    holds_any,
    selected_table,
)
from phaze_ee.errors import DataError
from phaze_ee.types import JetBatch, JetInputs, Jets


@dataclass(frozen=True)
class Chunk:
    """The selected jets of a span, with their sampling weights where the purpose is training with weights."""

    jets: JetColumns
    weight_N: npt.NDArray[np.float32] | None


@dataclass(frozen=True)
class JetRows:
    """The selected jets of a span, without padding where that is possible, and the rows where they stand in the file.

    ``label_N`` is -1 where the class is unknown.
    """

    jets: Jets
    label_N: Int[Tensor, " N"]
    observers: dict[str, npt.NDArray[np.generic]]
    row_N: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row_N)


class RowReader:
    """Turns rows of files into jets, for one purpose: training or evaluation, with or without labels."""

    def __init__(self, schema: DataSchema, *, training: bool, labelled: bool = True) -> None:
        if schema.needs_standardisation:
            raise DataError("the data config asks for automatic standardisation, which only training files can give")
        self.schema, self.training, self.labelled = schema, training, labelled

    @classmethod
    def of_file(cls, schema: DataSchema, path: Path) -> Self:
        """Return a reader for evaluation, with labels if the file has any of their columns.

        Raises:
            DataError: the file cannot be read.
        """
        reader = cls(schema, training=False)
        return (
            reader
            if holds_any(reader.config, path, reader._label_names)
            else cls(schema, training=False, labelled=False)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"schema": self.schema, "training": self.training, "labelled": self.labelled}

    @cached_property
    def config(self) -> DataConfig:
        return self.schema.config_for(training=self.training, labelled=self.labelled)

    @cached_property
    def layout(self) -> InputLayout:
        return InputLayout.of(self.schema)

    @property
    def selection(self) -> str | None:
        expression: str | None = self.config.selection if self.training else self.config.test_time_selection
        return expression

    @property
    def has_weights(self) -> bool:
        return self.config.weight_name is not None

    def read(self, span: Span) -> Chunk:
        """Return the selected jets of some rows, in file order.

        Raises:
            DataError: the file cannot be read or lacks a branch, an expression fails, labels are not one-hot, or an
                input of a real particle is NaN or infinite.
        """
        table = self._checked_table(span)
        weight_N = self._weights(table, span.path) if self.has_weights else None
        return Chunk(self._columns(table, span.path), weight_N)

    def read_ragged(self, span: Span) -> JetRows:
        """Return the same jets without padding, unless only padding can say which particles are real.

        Raises:
            DataError: as for :meth:`read`.
        """
        table = self._checked_table(span)
        jets = ragged_jets(table, self.config, self.schema.groups)
        row_N = ak.to_numpy(table[ROW])
        if jets is None:
            batch = self._batch(table, span.path)
            return JetRows(batch.inputs, batch.label_N, batch.observers, row_N)
        return JetRows(jets, torch.from_numpy(ak.to_numpy(table["_label_"])), self._observers(table, span.path), row_N)

    def _checked_table(self, span: Span) -> ak.Array:
        """Return the selected rows with all that a jet is made of, checked; the label is ``_label_``."""
        table = self._table(span, {*self.config.preprocess_params, *self._label_names, *self._side_names})
        table["_label_"] = self._labels(table, span.path)
        check_lengths(table, list(self.config.preprocess_params), span.path)
        for name, params in self.config.preprocess_params.items():
            check_finite(table, name, span.path, params["length"])
        return table

    def survey(self, span: Span) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the row numbers of the selected jets and their sampling weights (ones if there are no weights)."""
        table = self._table(span, self._weight_names)
        weight_N = self._weights(table, span.path) if self.has_weights else np.ones(len(table), dtype=np.float32)
        return ak.to_numpy(table[ROW]), weight_N

    def _table(self, span: Span, names: Iterable[str]) -> ak.Array:
        return selected_table(self.config, span, names, self.selection, training=self.training)

    @property
    def _label_names(self) -> set[str]:
        labels = self.schema.class_names if self.labelled else ()
        return {name for label in labels for name in _get_data_var_names(label)}

    @property
    def _weight_names(self) -> set[str]:
        config = self.config
        if not self.has_weights:
            return set()
        if config.use_precomputed_weights:
            return {config.weight_name}
        return {*config.reweight_branches, *config.reweight_classes} | (
            {config.basewgt_name} if config.reweight_basewgt else set()
        )

    @property
    def _side_names(self) -> set[str]:
        return {*self._weight_names, *self.config.z_variables}

    def _weights(self, table: ak.Array, path: Path) -> npt.NDArray[np.float32]:
        for name in self._weight_names:
            check_one_per_jet(table, name, path)
        weight_N: npt.NDArray[np.float32] = _build_weights(table, self.config)
        return weight_N

    def _labels(self, table: ak.Array, path: Path) -> npt.NDArray[np.int64]:
        if not self.labelled:
            return np.full(len(table), -1, dtype=np.int64)
        columns = [_label(name, table, path) for name in self.schema.class_names]
        flags_NK = np.stack(columns, axis=1).astype(np.float64)
        wrong_N = (flags_NK.sum(axis=1) != 1) | (flags_NK.max(axis=1) != 1)
        if wrong_N.any():
            first = int(np.argmax(wrong_N))
            raise DataError(
                f"{path} row {table[ROW][first]}: the labels {', '.join(self.schema.class_names)} sum to "
                f"{flags_NK[first].sum():g}; exactly one of them must be 1 (correct the file, labels or selection)"
            )
        label_N: npt.NDArray[np.int64] = flags_NK.argmax(axis=1)
        return label_N

    def _columns(self, table: ak.Array, path: Path) -> JetColumns:
        rows = standardised(table, self.config, self.schema.groups, self.schema.length)
        if rows is None:
            return JetColumns.of_padded(self.layout, self._batch(table, path))
        label_N = torch.from_numpy(ak.to_numpy(table["_label_"]))
        return JetColumns.of_rows(
            self.layout, list(rows.values_CV.numpy()), rows.count_N, label_N, self._observers(table, path)
        )

    def _batch(self, table: ak.Array, path: Path) -> JetBatch:
        observers = self._observers(table, path)  # before weaver transforms the columns in place
        output: Mapping[str, Any] = _finalize_inputs(table, self.config)
        tensors = {kind: torch.from_numpy(output[f"_{group}"]) for kind, group in self.schema.groups.items()}
        features = tensors["features"]
        # without a mask group every slot counts as real, as in weaver
        mask = tensors.get("mask", features.new_ones(len(features), 1, self.schema.length))
        inputs = JetInputs(tensors["points"], features, tensors.get("vectors"), mask)
        return JetBatch(inputs, torch.from_numpy(output["_label_"]), observers)

    def _observers(self, table: ak.Array, path: Path) -> dict[str, npt.NDArray[np.generic]]:
        return {name: _one_number_a_jet(table[name], name, path) for name in self.config.z_variables}


def _label(name: str, table: ak.Array, path: Path) -> npt.NDArray[np.generic]:
    column = evaluate(name, name, table, path)
    numbers = isinstance(column, ak.Array | np.ndarray) and column.ndim == 1 and len(column) == len(table)
    values: npt.NDArray[np.generic] = ak.to_numpy(column) if numbers else np.array("")
    if values.dtype.kind not in "biuf":
        raise DataError(f"{path}: label {name} is not one number a jet; correct the labels of the data config")
    return values


def _one_number_a_jet(column: ak.Array, name: str, path: Path) -> npt.NDArray[np.generic]:
    if column.ndim != 1:
        raise DataError(f"{path}: observer {name} is not one number a jet; remove it from the data config")
    values: npt.NDArray[np.generic] = ak.to_numpy(column)
    return values
