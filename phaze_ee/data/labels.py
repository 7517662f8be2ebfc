"""The class of each jet, from the labels of the data configuration: expressions that are 1 for the jets of a class."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from phaze_ee.data.branches import columns_for
from phaze_ee.data.evaluation import names_in
from phaze_ee.data.table import ROW, add_variables, evaluate
from phaze_ee.errors import DataError

if TYPE_CHECKING:
    from weaver.utils.data.config import DataConfig

_SHOWN = 4  # columns in a message


def label_variables(labels: Sequence[str]) -> set[str]:
    """Return the columns and new variables that labels are made of."""
    return {name for label in labels for name in names_in(label)}


def class_of_jets(config: "DataConfig", labels: Sequence[str], table: ak.Array, path: Path) -> npt.NDArray[np.int64]:
    """Return the index of the class of each jet.

    Args:
        config: weaver's data configuration, for the new variables that the labels use.
        labels: the label of each class.
        table: the jets, with all columns that the labels are made from.
        path: their file, for errors.

    Raises:
        DataError: an expression fails, or a jet has not exactly one class; with file, row and the labels.
    """
    table = add_variables(table, columns_for(config, label_variables(labels))[1], path)
    flags_NK = np.stack([_values(label, table, path) for label in labels], axis=1).astype(np.float64)
    wrong_N = ~_one_hot(flags_NK)
    if wrong_N.any():
        first = int(np.argmax(wrong_N))
        raise DataError(
            f"{path} row {table[ROW][first]}: the labels {', '.join(labels)} sum to "
            f"{flags_NK[first].sum():g}{_made_from(labels, table[first])}; exactly one of them must be 1 (correct the "
            "file or the labels, or leave such jets out by selection, or by --extra-selection-test in other modes)"
        )
    label_N: npt.NDArray[np.int64] = flags_NK.argmax(axis=1)
    return label_N


def known_class_of_jets(
    config: "DataConfig", labels: Sequence[str], table: ak.Array, path: Path
) -> npt.NDArray[np.int64]:
    """Return the index of the class of each jet; -1 where the labels name none, or several, or cannot be computed."""
    try:
        table = add_variables(table, columns_for(config, label_variables(labels))[1], path)
        flags_NK = np.stack([_values(label, table, path) for label in labels], axis=1).astype(np.float64)
    except DataError:
        return np.full(len(table), -1)
    label_N: npt.NDArray[np.int64] = np.where(_one_hot(flags_NK), flags_NK.argmax(axis=1), -1)
    return label_N


def _one_hot(flags_NK: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    one_hot_N: npt.NDArray[np.bool_] = (flags_NK.sum(axis=1) == 1) & (flags_NK.max(axis=1) == 1)
    return one_hot_N


def _values(label: str, table: ak.Array, path: Path) -> npt.NDArray[np.generic]:
    column = evaluate(label, label, table, path)
    numbers = isinstance(column, ak.Array | np.ndarray) and column.ndim == 1 and len(column) == len(table)
    try:
        values: npt.NDArray[np.generic] = ak.to_numpy(column) if numbers else np.array("")
    except (TypeError, ValueError):  # numbers in some rows, lists or records in others
        values = np.array("")
    if values.dtype.kind not in "biuf":
        raise DataError(f"{path}: label {label} is not one number per jet; correct the labels of the data config")
    return values


def _made_from(labels: Sequence[str], row: Any) -> str:
    """Return the columns of a jet that its labels are computed from; nothing where the labels are columns."""
    names = sorted(label_variables(labels) - set(labels))
    return f" (from {', '.join(f'{name} = {row[name]}' for name in names[:_SHOWN])})" if names else ""
