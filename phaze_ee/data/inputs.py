"""The columns of a table that are inputs of a network: checked, and as lists of particles. Nothing here needs torch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import numpy.typing as npt

from phaze_ee.data.bad_values import BadValues, let_pass
from phaze_ee.data.table import check_complete, check_finite, check_lengths
from phaze_ee.errors import DataError

_OTHERS = "choose others with --observers, or remove it from the data config"


class Lists(NamedTuple):
    """The columns of the inputs, particle after particle; the particles of a jet end at the next offset."""

    values_V: dict[str, npt.NDArray[Any]]
    offsets: npt.NDArray[np.int64]


def checked_lists(
    table: ak.Array,
    names_of_each: Sequence[Sequence[str]],
    params: Mapping[str, Mapping[str, Any]],
    bad_values: BadValues,
    path: Path,
) -> tuple[list[Lists] | None, Counter[str]]:
    """Check the variables of the inputs.

    Args:
        table: rows with the inputs. Its columns are replaced, not changed.
        names_of_each: the variables of each collection.
        params: how each input is padded, as weaver says it.
        bad_values: what becomes of inputs that are NaN or infinite.
        path: the file, for errors.

    Returns:
        The content of each collection (None: some are no lists in memory), and the numbers of bad values that may pass.

    Raises:
        DataError: an input is not one finite number per particle.
    """
    bad = Counter[str]()
    for name in {name for own in names_of_each for name in own}:
        table[name] = _of_particles(without_options(table[name]), params[name]["length"])
    lists = [lists_of(table, own) for own in names_of_each]
    for own, content in zip(names_of_each, lists, strict=True):
        if content is None:
            check_lengths(table, own, path)
    if bad_values == "zero":
        bad = let_pass(table, params, path)
        lists = [lists_of(table, own) for own in names_of_each] if bad else lists
    else:
        for name, parameters in params.items():
            check_finite(table, name, path, parameters["length"])
    known = [content for content in lists if content is not None]
    if len(known) == len(lists):
        return known, bad
    check_complete(table, [name for name, own in params.items() if own["pad_mode"] == "wrap"], path)
    return None, bad


def _of_particles(column: ak.Array, length: int | None) -> ak.Array:
    """Return numbers of the jet in a group of length 1 as lists of one number, as which weaver pads them."""
    return ak.from_regular(ak.unflatten(column, 1)) if length == column.ndim == 1 else column


def lists_of(table: ak.Array, names: Sequence[str]) -> Lists | None:
    """Return the content of columns that are lists of the same lengths; None if they are not."""
    values: dict[str, npt.NDArray[Any]] = {}
    offsets: npt.NDArray[np.int64] | None = None
    for name in names:
        layout = ak.to_packed(table[name]).layout  # a selection may have left an index or a gap
        content = layout.content if isinstance(layout, ak.contents.ListOffsetArray) else None
        if not isinstance(content, ak.contents.NumpyArray) or content.data.ndim != 1:
            return None
        own = np.asarray(layout.offsets.data)
        if offsets is not None and not np.array_equal(own, offsets):
            return None
        values[name], offsets = np.asarray(content.data), own
    return None if offsets is None else Lists(values, offsets.astype(np.int64, copy=False))


def without_options(column: ak.Array) -> ak.Array:
    """Return a column whose type allows for missing values, as that of ``ak.max`` does, without that if none is.

    A missing list, as a formula gives it for a jet without particles, becomes an empty one.
    """
    if not _has_options(column) or column.ndim not in (1, 2):
        return column
    if column.ndim == 2:
        column = ak.fill_none(column, [], axis=0)
    missing = ak.is_none(column, axis=column.ndim - 1)
    return column if ak.any(missing, axis=None) else ak.fill_none(column, 0, axis=-1)


def _has_options(column: ak.Array) -> bool:
    text = str(column.type)
    return "?" in text or "option[" in text


def one_number_a_jet(column: ak.Array, what: str, path: Path) -> npt.NDArray[np.generic]:
    """Return a column with one real number per jet; ``what`` is its name in the message.

    Raises:
        DataError: it is something else.
    """
    if column.ndim != 1 or column.fields:
        raise DataError(f"{path}: {what} is not one number per jet but {column.type.content}; {_OTHERS}")
    column = without_options(column)
    if _has_options(column):
        raise DataError(f"{path}: {what} has no value for some jets; fill it by ak.fill_none in the data config")
    kind = column.type.content
    numbers = isinstance(kind, ak.types.NumpyType) and np.dtype(kind.primitive).kind in "biuf"
    if not numbers:
        raise DataError(f"{path}: {what} holds {kind}, not real numbers; {_OTHERS}")
    values: npt.NDArray[np.generic] = ak.to_numpy(column)
    return values.astype(np.float32) if values.dtype == np.float16 else values  # ROOT and parquet have no half floats
