"""Targets: numbers of a jet, such as its mass, that the network predicts beside its class.

weaver reads only ``type`` and ``value`` of the section ``labels``. The targets are one more entry there, ``targets``:
weaver still takes the file as that of a classifier.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from phaze_ee.data.branches import columns_for
from phaze_ee.data.labels import label_variables
from phaze_ee.data.table import ROW, add_variables, evaluate, training_tables
from phaze_ee.errors import DataError

if TYPE_CHECKING:
    from weaver.utils.data.config import DataConfig

TARGET = "/target/"  # how the names of targets begin among observers on the way to a batch: no branch is called so
_LEAST_SPREAD = 1e-4  # of the center; steps between numbers in single precision are 1e-7 of it
_REMEDY = "leave such jets out by selection, or give them a number in new_variables"


def targets_of_jets(
    config: "DataConfig", targets: Mapping[str, str], table: ak.Array, path: Path
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the targets of each jet.

    Args:
        config: weaver's data configuration, for the new variables that the targets use.
        targets: the expression of each target.
        table: the jets, with all columns that the targets are made from.
        path: their file, for errors.

    Raises:
        DataError: an expression fails, or is not one finite number for a jet; with file, row and target.
    """
    table = add_variables(table, columns_for(config, label_variables(list(targets.values())))[1], path)
    return {name: _finite(name, text, table, path) for name, text in targets.items()}


def target_scales(config: "DataConfig", targets: Mapping[str, str], files: Sequence[Path]) -> dict[str, Any]:
    """Return ``center`` and ``spread`` of each target.

    They are those of weaver's automatic standardisation of inputs: the median, and the larger distance from it to the
    16 % and 84 % quantiles, of the jets that pass ``selection`` in the first ``data_fraction`` of each file.

    Raises:
        DataError: a file cannot be used, or a target is the same number for all these jets.
    """
    names = label_variables(list(targets.values()))
    tables = training_tables(config, files, names, config.preprocess["data_fraction"])
    parts = [targets_of_jets(config, targets, table, path) for path, table in tables]
    values = {name: np.concatenate([part[name] for part in parts]).astype(np.float64) for name in targets}
    return {name: _scale(name, value_N) for name, value_N in values.items()}


def _scale(name: str, value_N: npt.NDArray[np.float64]) -> dict[str, float]:
    low, center, high = np.percentile(value_N, [16, 50, 84]).tolist()
    spread = max(center - low, high - center)
    if spread == 0:
        raise DataError(
            f"target {name} is {center:g} for most training jets, so it has no spread to learn; correct labels.targets"
        )
    if spread < max(_LEAST_SPREAD * abs(center), np.finfo(np.float32).tiny):
        raise DataError(
            f"target {name} is {center:g} with a spread of {spread:.2g}, which single precision does not resolve; "
            "subtract a constant from it in labels.targets, or take another unit"
        )
    return {"center": center, "spread": spread}


def _finite(name: str, text: str, table: ak.Array, path: Path) -> npt.NDArray[np.float32]:
    column = evaluate(f"target {name}", text, table, path)
    what = f"target {name}" if text == name else f"target {name} ({text})"
    numbers = isinstance(column, ak.Array | np.ndarray) and column.ndim == 1 and len(column) == len(table)
    try:
        missing_N = ak.to_numpy(ak.is_none(column)) if numbers else np.zeros(0, dtype=bool)
        values = ak.to_numpy(ak.fill_none(column, np.nan)) if numbers else np.array("")
    except (TypeError, ValueError):  # numbers in some rows, lists or records in others
        values = np.array("")
    if values.dtype.kind not in "biuf":
        raise DataError(f"{path}: {what} is not one number per jet; correct labels.targets of the data config")
    value_N = values.astype(np.float32)
    wrong_N = ~np.isfinite(value_N)
    if wrong_N.any():
        first = int(np.argmax(wrong_N))
        kind = "has no value" if missing_N[first] else f"is {values[first]:g}"
        raise DataError(f"{path} row {table[ROW][first]}: {what} {kind}; {_REMEDY}")
    return value_N
