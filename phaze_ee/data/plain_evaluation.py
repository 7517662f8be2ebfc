"""Expressions of a data configuration without weaver: the same names and the same values, with NumPy and awkward.

A bundle runs where weaver and numba are not installed. A parity test compares this module with weaver's
``eval_utils`` and ``tools``.
"""

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import CodeType
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt

MODULES: Mapping[str, Any] = {"math": math, "np": np, "numpy": np, "ak": ak, "awkward": ak, "len": len}


@cache
def names_in(expression: str) -> tuple[str, ...]:
    """Return the columns that an expression uses, sorted."""
    names = {node.id for node in ast.walk(ast.parse(expression)) if isinstance(node, ast.Name)}
    return tuple(sorted(name for name in names if not name.startswith("_") and name not in MODULES))


def value_of(expression: str, table: ak.Array) -> Any:
    """Return the value of an expression on a table. The expression must have passed the gate.

    Raises:
        NameError: it uses a helper of weaver that is not among :data:`HELPERS`.
    """
    columns = {name: table[name] for name in names_in(expression)}
    return eval(_compiled(expression), {"__builtins__": {}, **MODULES, **HELPERS, **columns})


def with_variables(table: ak.Array, formulas: Mapping[str, str]) -> ak.Array:
    """Return the table with new variables; a column that it has stays as it is."""
    for name, formula in formulas.items():
        if name not in table.fields:
            table[name] = value_of(formula, table)
    return table


@cache
def _compiled(expression: str) -> CodeType:
    return compile(expression, "<expression>", "eval")


def _hash(*columns: Any) -> npt.NDArray[Any]:
    return np.array([hash(values) for values in zip(*columns, strict=False)])


def _concat(arrays: Sequence[Any], axis: int = 0) -> Any:
    if not len(arrays):
        return np.array([])
    library = np if isinstance(arrays[0], np.ndarray) else ak
    return library.concatenate(arrays, axis=axis)


def _stack(arrays: Sequence[Any], axis: int = 1) -> Any:
    if not len(arrays):
        return np.array([])
    if isinstance(arrays[0], np.ndarray):
        return np.stack(arrays, axis=axis)
    index: list[Any] = [slice(None)] * (arrays[0].ndim + 1)
    index[axis] = np.newaxis
    return ak.concatenate([array[tuple(index)] for array in arrays], axis=axis)


def _clip(array: Any, a_min: float | None, a_max: float | None) -> Any:
    if isinstance(array, np.ndarray) or array.ndim == 1:
        return np.clip(array, a_min, a_max)
    return ak.unflatten(np.clip(ak.to_numpy(ak.flatten(array)), a_min, a_max), ak.num(array))


def _pad(array: Any, maxlen: int, value: float = 0, dtype: str = "float32") -> Any:
    if isinstance(array, np.ndarray) and array.ndim >= 2 and array.shape[1] == maxlen:
        return array
    rows = array if isinstance(array, ak.Array) else ak.Array([list(row) for row in array])
    rows = ak.unflatten(rows, 1) if rows.ndim == 1 else rows
    padded = ak.fill_none(ak.pad_none(ak.values_astype(rows, dtype), maxlen, clip=True), value)
    return ak.to_numpy(padded).astype(dtype)


def _repeat_pad(array: ak.Array, maxlen: int, dtype: str = "float32") -> Any:
    rows = ak.unflatten(array, 1) if array.ndim == 1 else array
    count_N = ak.to_numpy(ak.num(rows))
    start_N = np.concatenate([[0], count_N.cumsum()])[:-1]
    place_NP = start_N[:, None] + np.arange(maxlen) % np.maximum(count_N, 1)[:, None]
    value_V = np.append(ak.to_numpy(ak.flatten(rows)).astype(dtype), np.zeros(1, dtype))
    return np.where(count_N[:, None] > 0, value_V[np.minimum(place_NP, len(value_V) - 1)], np.zeros(1, dtype))


def _batch_argsort(array: ak.Array) -> Any:
    return ak.argsort(array)


def _batch_gather(array: Any, indices: Any) -> Any:
    return array[indices]


def _p4_from_pxpypze(px: Any, py: Any, pz: Any, energy: Any) -> Any:
    return _vectors(px=px, py=py, pz=pz, energy=energy)


def _p4_from_ptetaphie(pt: Any, eta: Any, phi: Any, energy: Any) -> Any:
    return _vectors(pt=pt, eta=eta, phi=phi, energy=energy)


def _p4_from_ptetaphim(pt: Any, eta: Any, phi: Any, mass: Any) -> Any:
    return _vectors(pt=pt, eta=eta, phi=phi, mass=mass)


def _vectors(**components: Any) -> Any:
    import vector  # a fifth of a second, and few configurations use it

    vector.register_awkward()
    return vector.zip(components)


# Not among them: what draws random numbers, and neighbours, which need scipy.
HELPERS: Mapping[str, Callable[..., Any]] = {
    helper.__name__: helper
    for helper in (
        *(_hash, _concat, _stack, _clip, _pad, _repeat_pad, _batch_argsort, _batch_gather),
        *(_p4_from_pxpypze, _p4_from_ptetaphie, _p4_from_ptetaphim),
    )
}
