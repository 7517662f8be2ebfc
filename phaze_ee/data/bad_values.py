"""Inputs that are NaN or infinite, where ``c.bad_values = "zero"`` lets them pass.

weaver sets an input that is NaN to 0, after the standardisation. Infinity becomes the bound at which the variable is
clipped. Where it is not clipped, weaver keeps infinity, and the answer of a network is NaN; here it becomes 0 too.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import numpy as np

from phaze_ee.data.table import numbers_of

BadValues = Literal["refuse", "zero"]


def let_pass(table: ak.Array, params: Mapping[str, Mapping[str, Any]], path: Path) -> Counter[str]:
    """Change a table so that weaver makes finite inputs of it, and count the bad numbers among the first P particles.

    Args:
        table: rows with the inputs, before weaver standardises them. Its columns are replaced, not changed.
        params: how each input is standardised, clipped and padded.
        path: the file, for errors.

    Returns:
        The number of bad values of each kind, as ``"NaN in part_d0"``.

    Raises:
        DataError: an input does not hold real numbers.
    """
    counts: Counter[str] = Counter()
    for name, own in params.items():
        if np.isfinite(numbers_of(table, name, path)).all():
            continue
        column = table[name]
        for kind, is_bad in (("NaN", np.isnan), ("infinity", np.isinf)):
            seen = column if column.ndim == 1 else column[:, : own["length"]]
            counts[f"{kind} in {name}"] += int(ak.sum(is_bad(seen)))
        if not _is_clipped(own):
            with np.errstate(invalid="ignore"):
                table[name] = ak.where(np.isinf(column), column - column, column)  # NaN, which weaver sets to 0
    return +counts


def said(counts: Iterable[Mapping[str, int]]) -> str:
    """Return the sum of counts of bad values in one line; empty if there are none."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    listed = ", ".join(f"{count:,} × {what}" for what, count in sorted(total.items()))
    return f"bad_values is 'zero', and inputs were set to 0 or clipped: {listed}" if listed else ""


def without_nan(table: ak.Array, name: str, path: Path) -> ak.Array:
    """Return a variable with 0 for NaN, as weaver standardises it.

    Raises:
        DataError: it does not hold real numbers.
    """
    column = table[name]
    if np.isfinite(numbers_of(table, name, path)).all():
        return column
    return ak.where(np.isnan(column), ak.zeros_like(column), column)


def _is_clipped(own: Mapping[str, Any]) -> bool:
    """Whether infinity becomes a finite number: weaver clips only what it centers."""
    return own["center"] is not None and own["scale"] != 0 and math.isfinite(own["min"]) and math.isfinite(own["max"])
