"""Whole files of jets with unexpected columns: other types, lengths and values."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import uproot

from tests.fuzz.attempts import Attempt
from tests.fuzz.scene import JETS, PROJECT, jets

Column = Any
Change = Callable[[random.Random, Column], Column]

_WRITE_ERRORS = (
    AssertionError,
    OSError,
    ValueError,
    TypeError,
    NotImplementedError,
    LookupError,
    AttributeError,
    pyarrow.ArrowException,
)


def attempt(draw: random.Random, scene: Path) -> Attempt:
    """Write a whole file with one or two unexpected columns, and predict it."""
    content = jets(1)
    changes = [draw.choice(sorted(_CHANGES)) for _ in range(draw.choice((1, 1, 2)))]
    names = [draw.choice(sorted(content)) for _ in changes]
    for name, change in zip(names, changes, strict=True):
        content[name] = _changed(draw, content[name], change)
    path = scene / f"jets.{draw.choice(tuple(_WRITERS))}"
    path.unlink()
    whole = _write(path, {name: column for name, column in content.items() if column is not None})
    same = whole and set(changes) <= _KEEP_NUMBERS and "p_pt" not in names  # whose logarithm is rounded
    arguments = ["-m", "predict", *PROJECT, "--output", "out/new", "--files", path.name]
    what = f"{path.name}: {', '.join(f'{change} {name}' for name, change in zip(names, changes, strict=True))}"
    return Attempt(arguments, ["out/new/jets.root"], same=same, scratch=["out/new"], what=what)


def _changed(draw: random.Random, column: Column, change: str) -> Column:
    try:
        return _CHANGES[change](draw, column)
    except (AssertionError, ValueError, TypeError, LookupError, NotImplementedError):
        return column  # a second change that does not fit the first


def _with(draw: random.Random, column: Column, value: float) -> Column:
    """Return a column with one other number."""
    flat = np.array(ak.flatten(column, axis=None), dtype=np.float32)
    flat[draw.randrange(len(flat))] = value
    return ak.unflatten(flat, ak.num(column)) if ak.Array(column).ndim > 1 else flat


def _rows(draw: random.Random, column: Column, row: Any) -> Column:
    """Return a column with another row."""
    rows = ak.to_list(column)
    rows[draw.randrange(len(rows))] = row
    return ak.Array(rows)


def _shorter_list(draw: random.Random, column: Column) -> Column:
    rows = ak.to_list(column)
    place = draw.randrange(len(rows))
    rows[place] = rows[place][:-1] if isinstance(rows[place], list) else rows[place]
    return ak.Array(rows)


_CHANGES: Mapping[str, Change] = {
    "double": lambda draw, column: ak.values_astype(column, np.float64),
    "half": lambda draw, column: ak.values_astype(column, np.float16),
    "integer": lambda draw, column: ak.values_astype(column, np.int64),
    "unsigned": lambda draw, column: ak.values_astype(column, np.uint8),
    "boolean": lambda draw, column: ak.values_astype(column, np.bool_),
    "complex": lambda draw, column: ak.values_astype(column, np.complex64),
    "nan": lambda draw, column: _with(draw, column, float("nan")),
    "infinite": lambda draw, column: _with(draw, column, float("inf")),
    "huge": lambda draw, column: _with(draw, column, 3e38),
    "negative": lambda draw, column: _with(draw, column, -1),
    "null row": lambda draw, column: _rows(draw, column, None),
    "empty row": lambda draw, column: _rows(draw, column, []),
    "text row": lambda draw, column: _rows(draw, column, "a"),
    "record row": lambda draw, column: _rows(draw, column, {"a": 1}),
    "deep row": lambda draw, column: _rows(draw, column, [[1.0]]),
    "long row": lambda draw, column: _rows(draw, column, [0.5] * 5000),
    "shorter list": _shorter_list,
    "shorter": lambda draw, column: column[: draw.randrange(JETS)],
    "longer": lambda draw, column: ak.concatenate([column, column]),
    "texts": lambda draw, column: ak.Array(["a"] * len(column)),
    "records": lambda draw, column: ak.zip({"a": column, "b": column}),
    "dates": lambda draw, column: np.arange(len(column)).astype("datetime64[s]"),
    "numbers": lambda draw, column: np.arange(len(column), dtype=np.float32),
    "lists": lambda draw, column: ak.Array([[1.0, 2.0]] * len(column)),
    "no particles": lambda draw, column: ak.unflatten(np.empty(0, np.float32), np.zeros(len(column), np.int64)),
    "fixed": lambda draw, column: np.ones((len(column), 4), dtype=np.float32),
    "wide": lambda draw, column: np.ones((len(column), 2, 3), dtype=np.float32),
    "none": lambda draw, column: None,
    "no rows": lambda draw, column: column[:0],
}
_KEEP_NUMBERS = {"double"}


def _write(path: Path, content: Mapping[str, Column]) -> bool:
    """Write the columns that the format can hold; return whether it holds them all."""
    kept = dict(content)
    while kept:
        try:
            _WRITERS[path.suffix[1:]](path, kept)
            return len(kept) == len(content)
        except _WRITE_ERRORS:
            kept.pop(_unwritable(path, kept))
    path.touch()
    return False


def _unwritable(path: Path, content: Mapping[str, Column]) -> str:
    """Return a column that cannot be written alone, or any if each can."""
    for name, column in content.items():
        try:
            _WRITERS[path.suffix[1:]](path, {name: column})
        except _WRITE_ERRORS:
            return name
    return list(content)[-1]


def _root(path: Path, content: Mapping[str, Column]) -> None:
    with uproot.recreate(path) as file:
        file["Events"] = dict(content)


def _parquet(path: Path, content: Mapping[str, Column]) -> None:
    columns = {
        name: column
        if isinstance(column, np.ndarray) and column.ndim == 1
        else ak.to_arrow(ak.Array(column), extensionarray=False)
        for name, column in content.items()
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def _hdf5(path: Path, content: Mapping[str, Column]) -> None:
    with h5py.File(path, "w") as file:
        for name, column in content.items():
            if ak.Array(column).ndim == 1 or isinstance(column, np.ndarray):
                file[name] = ak.to_numpy(column)
                continue
            kind = np.dtype(ak.type(ak.flatten(column, axis=None)).content.primitive)
            lists = file.create_dataset(name, (len(column),), dtype=h5py.vlen_dtype(kind))
            for row, values in enumerate(column):
                numbers = ak.to_numpy(values)
                if isinstance(numbers, np.ma.MaskedArray) or numbers.ndim != 1:
                    raise TypeError(f"h5py cannot write this row of {name}: {numbers!r}")  # it ends the process
                lists[row] = numbers.astype(kind)


_WRITERS: Mapping[str, Callable[[Path, Mapping[str, Column]], None]] = {"root": _root, "parquet": _parquet, "h5": _hdf5}
