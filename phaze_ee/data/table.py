"""Tables of columns from files, and weaver's expressions on them, with errors that name file and row."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from weaver.utils.data.config import DataConfig
from weaver.utils.data.eval_utils import _eval_expr, _get_data_var_names
from weaver.utils.data.preprocess import _apply_selection, _build_new_variables

from phaze_ee.data.sources import open_source
from phaze_ee.errors import DataError

ROW = "phaze_ee_row"
TRAINING_FLAG = "aux_training_"  # weaver's name of a column that is true in training only; expressions may use it
EXPRESSION_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Span:
    """Rows of a file, from ``start`` up to ``stop``."""

    path: Path
    start: int
    stop: int


def columns_for(config: DataConfig, names: Iterable[str]) -> tuple[set[str], dict[str, str]]:
    """Return the file's columns and the new variables, in the order of the YAML, that ``names`` are made from."""
    columns: set[str] = set()
    used: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in config.var_funcs and name not in used:
            used.add(name)
            todo += _get_data_var_names(config.var_funcs[name])
        elif name not in used:
            columns.add(name)
    return columns, {name: formula for name, formula in config.var_funcs.items() if name in used}


def selected_table(
    config: DataConfig, span: Span, names: Iterable[str], selection: str | None, *, training: bool
) -> ak.Array:
    """Return the rows of a span that pass a selection, with the columns and new variables ``names``.

    Raises:
        DataError: the file cannot be read or lacks a branch, or an expression fails.
    """
    names = set(names)
    columns, formulas = columns_for(config, names)
    cut_columns, cut_formulas = columns_for(config, _get_data_var_names(selection) if selection else ())
    table = read_table(config, span, columns | cut_columns)
    table[TRAINING_FLAG] = training
    with np.errstate(all="ignore"):  # check_finite refuses values that are not finite, and names their row
        table = add_variables(table, cut_formulas, span.path)
        return add_variables(select(table, selection, span.path), formulas, span.path)


def read_table(config: DataConfig, span: Span, columns: Iterable[str]) -> ak.Array:
    """Return rows of a file, with the row number (``ROW``) and the columns that ``file_magic`` adds.

    Raises:
        DataError: the file cannot be read, or lacks a branch.
    """
    in_file = _names_in_file(config, columns)
    with open_source(span.path, config.treename) as source:
        missing = [name for name in in_file.values() if name not in source.columns]
        if missing:
            named = ", ".join(f"{name}{_nearest(name, source.columns)}" for name in missing)
            raise DataError(f"{span.path} has no branch {named}; correct the data config or the file list")
        records = source.read(list(in_file.values()), span.start, span.stop)
    row_N = np.arange(span.start, span.stop)
    if in_file and len(records) != len(row_N):
        raise DataError(f"{span.path} changed while it was in use; start again with files that stay as they are")
    table = ak.zip({ROW: row_N, **{name: records[stored] for name, stored in in_file.items()}}, depth_limit=1)
    for name, value_of_pattern in (config.file_magic or {}).items():
        table[name] = next((v for pattern, v in value_of_pattern.items() if re.search(pattern, str(span.path))), 0)
    return table


def _nearest(name: str, columns: Iterable[str]) -> str:
    near = get_close_matches(name, columns, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def select(table: ak.Array, selection: str | None, path: Path) -> ak.Array:
    """Return the rows that pass a selection; None: all. The table must have its variables.

    Raises:
        DataError: the expression fails.
    """
    try:
        return _apply_selection(table, selection)
    except EXPRESSION_ERRORS as error:
        raise _expression_error("selection", str(selection), path, error) from error


def add_variables(table: ak.Array, formulas: Mapping[str, str], path: Path) -> ak.Array:
    """Return the table with new variables, computed in the order of ``formulas``.

    Raises:
        DataError: an expression fails.
    """
    for name, formula in formulas.items():
        try:
            table = _build_new_variables(table, {name: formula})
        except EXPRESSION_ERRORS as error:
            raise _expression_error(name, formula, path, error) from error
    return table


def evaluate(name: str, formula: str, table: ak.Array, path: Path) -> Any:
    """Return the value of an expression on a table.

    Raises:
        DataError: the expression fails.
    """
    try:
        return _eval_expr(formula, table)
    except EXPRESSION_ERRORS as error:
        raise _expression_error(name, formula, path, error) from error


def check_finite(table: ak.Array, name: str, path: Path, length: int | None = None) -> None:
    """Refuse NaN and infinity in a variable of the first ``length`` particles; None: of all.

    Raises:
        DataError: with variable, file and row.
    """
    column = table[name]
    if np.isfinite(ak.to_numpy(ak.flatten(column, axis=None))).all():
        return
    seen = column if column.ndim == 1 else column[:, :length]
    bad = ~np.isfinite(seen)
    bad_N = ak.to_numpy(bad if bad.ndim == 1 else ak.any(bad, axis=1))
    if bad_N.any():
        first = int(np.argmax(bad_N))
        kind = "NaN" if np.isnan(ak.to_numpy(ak.flatten(seen[first : first + 1], axis=None))).any() else "infinite"
        raise DataError(
            f"{path} row {table[ROW][first]}: {name} is {kind}; correct the file or the expression, or cut such jets "
            "away by selection"
        )


def holds_any(config: DataConfig, path: Path, names: Iterable[str]) -> bool:
    """Return whether a file gives any of ``names``: one of the columns that they are made from, or by its file name.

    Raises:
        DataError: the file cannot be read.
    """
    columns, _ = columns_for(config, names)
    patterns = [pattern for name in columns & (config.file_magic or {}).keys() for pattern in config.file_magic[name]]
    with open_source(path, config.treename) as source:
        in_file = source.columns & set(_names_in_file(config, columns).values())
    return bool(in_file) or any(re.search(pattern, str(path)) for pattern in patterns)


def _names_in_file(config: DataConfig, columns: Iterable[str]) -> dict[str, str]:
    """Return the columns that a file must hold, each with its name in the file."""
    wanted = sorted(set(columns) - (config.file_magic or {}).keys() - {TRAINING_FLAG})
    return {name: _replace_all(name, config.branch_magic or {}) for name in wanted}


def _replace_all(name: str, replacements: Mapping[str, str]) -> str:
    for old, new in replacements.items():
        name = name.replace(old, new)
    return name


def _expression_error(name: str, formula: str, path: Path, error: Exception) -> DataError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return DataError(f"data config: cannot compute {name} = {' '.join(formula.split())!r} on {path}: {reason}")
