"""Tables of columns from files, and weaver's expressions on them, with errors that name file and row."""

import ctypes
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mode
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from phaze_ee.data.branches import columns_for, missing_branches
from phaze_ee.data.evaluation import names_in, value_of, with_variables
from phaze_ee.data.sources import Source, open_source
from phaze_ee.errors import USER_CODE_ERRORS, DataError

if TYPE_CHECKING:
    from weaver.utils.data.config import DataConfig

ROW = "phaze_ee_row"
PLACE = "phaze_ee_place"  # row number + a number from the file's name, so that the first rows of files differ
_MOST_FIRST = 1 << 20
TRAINING_FLAG = "aux_training_"  # weaver's name of a column that is true in training only; expressions may use it
# With trust_expressions they may be any Python. awkward's kernels raise ArgumentError for a float in place of an int.
EXPRESSION_ERRORS = (*USER_CODE_ERRORS, StopIteration, ctypes.ArgumentError)
_QUIET = np.errstate(all="ignore")  # values that are not finite are refused later, with their row

# What the messages of NumPy and awkward mean in an expression.
_ADVICE = {
    "truth value of an array": "and, or, not and a < x < b work on single numbers; write &, | and ~, with brackets "
    "around each comparison",
    "'bitwise_": "& and | bind more tightly than comparisons; write (a > 1) & (b > 2), with brackets around each",
    "cannot convert to RegularArray": "this function takes no lists of different lengths; use np.minimum and "
    "np.maximum in place of np.clip, and | in place of np.isin",
}


@dataclass(frozen=True)
class Span:
    """Rows of a file, from ``start`` up to ``stop``."""

    path: Path
    start: int
    stop: int


def selected_table(
    config: "DataConfig",
    span: Span,
    names: Iterable[str],
    selection: str | None,
    *,
    training: bool,
    columns: Iterable[str] = (),
) -> ak.Array:
    """Return the rows of a span that pass a selection, with the columns and new variables ``names``.

    Args:
        config: weaver's data configuration.
        span: the rows.
        names: columns of the file, and new variables, which are computed.
        selection: the expression that rows must pass; None: all pass.
        training: the value of weaver's column ``aux_training_``.
        columns: more columns of the file.

    Raises:
        DataError: the file cannot be read or lacks a branch, or an expression fails.
    """
    own_columns, formulas = columns_for(config, names)
    cut_columns, cut_formulas = columns_for(config, names_in(selection) if selection else ())
    table = read_table(config, span, {*own_columns, *cut_columns, *columns})
    table[TRAINING_FLAG] = training
    table = add_variables(table, cut_formulas, span.path)
    return add_variables(select(table, selection, span.path), formulas, span.path)


def training_tables(
    config: "DataConfig", files: Iterable[Path], names: Iterable[str], fraction: float = 1
) -> Iterator[tuple[Path, ak.Array]]:
    """Yield the training jets of the first ``fraction`` of the rows of each file, with some variables.

    Rows that do not train, since ``config.part`` leaves them out, are not among them.

    Raises:
        DataError: a file cannot be used, or no jet passes the selection (at the end).
    """
    names, files, found, rows_of_all = set(names), list(files), 0, 0
    for path in files:
        with open_source(path, config.treename) as source:
            rows = source.row_count
        start, stop = config.part.rows_of(rows)
        rows_of_all += stop - start
        if stop > start:
            span = Span(path, start, min(stop, max(start + 1, math.trunc(fraction * rows))))
            table = selected_table(config, span, names, config.selection, training=True)
            found += len(table)
            yield path, table
    if not rows_of_all:
        raise DataError(f"no jets in {', '.join(map(str, files))}{config.part.of_rows}")
    if not found:
        raise DataError(f"no training jet passes the selection {config.selection!r}; loosen it")


def read_table(config: "DataConfig", span: Span, columns: Iterable[str]) -> ak.Array:
    """Return rows of a file, with the row number (``ROW``) and the columns that ``file_magic`` adds.

    Raises:
        DataError: the file cannot be read, or lacks a branch.
    """
    with open_source(span.path, config.treename) as source:
        in_file = _checked_names(config, source, span.path, columns)
        records = source.read(list(in_file.values()), span.start, span.stop)
    row_N = np.arange(span.start, span.stop)
    if in_file and len(records) != len(row_N):
        raise DataError(f"{span.path} changed while it was in use; start again with files that stay as they are")
    # As lists, whatever the length: so p[p > 0] cuts padding away, as it does in lists of variable length.
    columns_read = {name: ak.from_regular(records[stored], axis=None) for name, stored in in_file.items()}
    table = ak.zip({ROW: row_N, **columns_read}, depth_limit=1)
    if PLACE in columns:
        table[PLACE] = row_N + zlib.crc32(span.path.name.encode()) % _MOST_FIRST
    for name, value_of_pattern in (config.file_magic or {}).items():
        table[name] = next((v for pattern, v in value_of_pattern.items() if re.search(pattern, str(span.path))), 0)
    return table


def select(table: ak.Array, selection: str | None, path: Path) -> ak.Array:
    """Return the rows that pass a selection; None: all. The table must have its variables.

    Raises:
        DataError: the selection cannot be computed, or does not give one true or false per row.
    """
    if selection is None:
        return table
    passed = evaluate("selection", selection, table, path)
    is_column = isinstance(passed, ak.Array | np.ndarray) and passed.ndim == 1 and len(passed) == len(table)
    if not (is_column and ak.to_numpy(passed).dtype.kind in "biuf"):
        raise _expression_error("selection", selection, path, "it must give one true or false per jet")
    missing_N = ak.to_numpy(ak.is_none(passed))
    if missing_N.any():
        first = table[ROW][int(np.argmax(missing_N))]
        raise _expression_error("selection", selection, path, f"it gives neither true nor false for row {first}")
    return table[ak.values_astype(passed, "bool")]  # as weaver selects


@_QUIET
def add_variables(table: ak.Array, formulas: Mapping[str, str], path: Path) -> ak.Array:
    """Return the table with new variables, computed in the order of ``formulas``.

    Raises:
        DataError: an expression fails.
    """
    for name, formula in formulas.items():
        try:
            table = with_variables(table, {name: formula})
        except EXPRESSION_ERRORS as error:
            later = [used for used in names_in(formula) if used in formulas and used not in table.fields]
            reason = f"new_variables define {later[0]} further down; move it up" if later else _reason(error)
            reason += _unequal(formula, table)
            raise _expression_error(name, formula, path, reason) from error
    return table


@_QUIET
def evaluate(name: str, formula: str, table: ak.Array, path: Path) -> Any:
    """Return the value of an expression on a table.

    Raises:
        DataError: the expression fails.
    """
    try:
        return value_of(formula, table)
    except EXPRESSION_ERRORS as error:
        raise _expression_error(name, formula, path, _reason(error) + _unequal(formula, table)) from error


def check_lengths(table: ak.Array, names: Sequence[str], path: Path) -> None:
    """Refuse inputs that are not one number per particle, or not as many as the others have in the same jet.

    weaver would pad each input by itself, and particles would get the numbers of others.

    Raises:
        DataError: naming variable and file, and the first row where the lengths differ.
    """
    for name in names:
        numbers_of(table, name, path)
        if table[name].ndim == 1:
            raise DataError(
                f"{path}: {name} is one number per jet, and an input of the network is one number per particle; "
                "put it into a group *_globals with length: null, or repeat it "
                f"({name} * ak.ones_like of a variable of the particles)"
            )
        if table[name].ndim != 2:  # -1 where some rows are deeper than others
            raise DataError(
                f"{path}: {name} is more than one number per particle, {table[name].type.content}, and an input of the "
                "network is one; correct the data config"
            )
    counts_VN = np.stack([ak.to_numpy(ak.fill_none(ak.num(table[name]), -1)) for name in names])
    differs_N = (counts_VN != counts_VN[0]).any(axis=0)
    if differs_N.any():
        first = int(np.argmax(differs_N))
        counts = counts_VN[:, first].tolist()
        usual = mode(counts)
        name, count = next(pair for pair in zip(names, counts, strict=True) if pair[1] != usual)
        raise DataError(
            f"{path} row {table[ROW][first]}: {name} has {max(count, 0)} numbers, other inputs have {usual}; correct "
            "the file or the expression"
        )


def check_complete(table: ak.Array, names: Iterable[str], path: Path) -> None:
    """Refuse inputs with missing numbers (None), which weaver fills in some cases only.

    Raises:
        DataError: naming variable, file and the first row with a missing number.
    """
    for name in names:
        missing_N = ak.to_numpy(ak.any(ak.is_none(table[name], axis=1), axis=1))
        if missing_N.any():
            raise DataError(
                f"{path} row {table[ROW][int(np.argmax(missing_N))]}: {name} has no value for a particle; fill it by "
                "ak.fill_none in the data config"
            )


def check_one_per_jet(table: ak.Array, name: str, path: Path, shown: str | None = None) -> None:
    """Refuse a variable that is not one finite number per jet; ``shown`` is its name in the message.

    Raises:
        DataError: naming variable and file, and the row of a number that is not finite.
    """
    check_per_jet(table, name, path, shown)
    check_given(table, name, path, shown)
    check_finite(table, name, path, shown=shown)


def check_per_jet(table: ak.Array, name: str, path: Path, shown: str | None = None) -> None:
    """Refuse a variable that is not one value per jet; ``shown`` is its name in the message.

    Raises:
        DataError: naming variable and file.
    """
    if table[name].ndim != 1:
        raise DataError(f"{path}: {shown or name} is not one number per jet; correct the data config")


def check_given(table: ak.Array, name: str, path: Path, shown: str | None = None) -> None:
    """Refuse a variable of the jets that has no value for some; ``shown`` is its name in the message.

    Raises:
        DataError: naming variable and file, and the first row without a value.
    """
    missing_N = ak.to_numpy(ak.is_none(table[name]))
    if missing_N.any():
        first = table[ROW][int(np.argmax(missing_N))]
        raise DataError(f"{path} row {first}: {shown or name} has no value; fill it by ak.fill_none in the data config")


def numbers_of(table: ak.Array, name: str, path: Path, shown: str | None = None) -> npt.NDArray[np.generic]:
    """Return all numbers of a variable, jet after jet; ``shown`` is its name in the message.

    Raises:
        DataError: it does not hold real numbers.
    """
    column = table[name]
    values: npt.NDArray[np.generic] = np.array("") if column.fields else _flattened(column)
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"{path}: {shown or name} does not hold real numbers but {column.type.content}; correct the file or the "
            "data config"
        )
    return values


def check_finite(
    table: ak.Array, name: str, path: Path, length: int | None = None, *, shown: str | None = None
) -> None:
    """Refuse NaN, infinity and other things than numbers in the first ``length`` particles; None: in all.

    ``shown`` is the name of the variable in the message.

    Raises:
        DataError: with variable, file and row.
    """
    if np.isfinite(numbers_of(table, name, path, shown)).all():
        return
    column = table[name]
    seen = column if column.ndim == 1 else column[:, :length]
    bad = ~np.isfinite(seen)
    bad_N = ak.to_numpy(bad if bad.ndim == 1 else ak.any(bad, axis=1))
    if bad_N.any():
        first = int(np.argmax(bad_N))
        kind = "NaN" if np.isnan(ak.to_numpy(ak.flatten(seen[first : first + 1], axis=None))).any() else "infinite"
        raise DataError(
            f"{path} row {table[ROW][first]}: {shown or name} is {kind}; correct the file or the expression, cut "
            "such jets away by selection, or set bad_values to 'zero', as weaver treats them (before an export)"
        )


def check_branches(config: "DataConfig", path: Path, names: Iterable[str]) -> None:
    """Refuse a file that lacks a branch from which ``names`` are made. No row is read.

    Raises:
        DataError: so it is, or the file cannot be read.
    """
    with open_source(path, config.treename) as source:
        check_columns(config, source, path, names)


def check_columns(config: "DataConfig", source: Source, path: Path, names: Iterable[str]) -> None:
    """Refuse an open file that lacks a branch from which ``names`` are made.

    Raises:
        DataError: so it is.
    """
    _checked_names(config, source, path, columns_for(config, names)[0])


def holds_all(config: "DataConfig", path: Path, names: Iterable[str]) -> bool:
    """Return whether a file gives all of ``names``: the columns that they are made from, or its name does.

    The columns must have no gaps. Where they are made from the name of the file alone, it must have one of the patterns
    of ``file_magic``.

    Raises:
        DataError: the file cannot be read.
    """
    columns, _ = columns_for(config, names)
    wanted = set(_names_in_file(config, columns).values())
    if not wanted:
        magic: Mapping[str, Mapping[str, float]] = config.file_magic or {}
        return any(re.search(pattern, str(path)) for name in columns & magic.keys() for pattern in magic[name])
    with open_source(path, config.treename) as source:
        return wanted <= source.columns and not any(map(source.has_gaps, wanted))


def _checked_names(config: "DataConfig", source: Source, path: Path, columns: Iterable[str]) -> dict[str, str]:
    in_file = _names_in_file(config, columns)
    if not source.columns.issuperset(in_file.values()):
        raise missing_branches(config, path, source, in_file)
    return in_file


def _names_in_file(config: "DataConfig", columns: Iterable[str]) -> dict[str, str]:
    """Return the columns that a file must hold, each with its name in the file."""
    wanted = sorted(set(columns) - (config.file_magic or {}).keys() - {TRAINING_FLAG, PLACE})
    return {name: _replace_all(name, config.branch_magic or {}) for name in wanted}


def _replace_all(name: str, replacements: Mapping[str, str]) -> str:
    for old, new in replacements.items():
        name = name.replace(old, new)
    return name


def _reason(error: Exception) -> str:
    text = next(iter(str(error).strip().splitlines()), type(error).__name__)
    for part, advice in _ADVICE.items():
        if part in text:
            return advice
    return text.split(" (in compiled code: ")[0]  # an address in awkward's sources


def _unequal(formula: str, table: ak.Array) -> str:
    """Return the first row where two lists that a formula uses have not as many numbers; empty if there is none."""
    lists = [name for name in sorted(names_in(formula)) if name in table.fields and table[name].ndim == 2]
    for name, other in pairwise(lists):
        own_N, other_N = (ak.to_numpy(ak.fill_none(ak.num(table[one]), -1)) for one in (name, other))
        if (differs_N := own_N != other_N).any():
            first = int(np.argmax(differs_N))
            return f" (row {table[ROW][first]}: {own_N[first]} numbers in {name}, {other_N[first]} in {other})"
    return ""


def _expression_error(name: str, formula: str, path: Path, reason: str) -> DataError:
    return DataError(f"data config: cannot compute {name} = {' '.join(formula.split())!r} on {path}: {reason}")


def _flattened(column: ak.Array) -> npt.NDArray[np.generic]:
    """Return all values of a column; a text where rows of different kinds cannot be in one array."""
    try:
        values: npt.NDArray[np.generic] = ak.to_numpy(ak.flatten(column, axis=None))
    except (AssertionError, AttributeError, TypeError, ValueError):
        if "union[" not in str(column.type):
            raise
        return np.array("")
    return values
