"""Rows of which many numbers are zero, stored by those that are not."""

from typing import Any

import numba
import numpy as np
from jaxtyping import Float, Int
from numba.extending import intrinsic

_BITS = 64


def _lowest_bit(typing_context: Any, mask: Any) -> Any:
    """Return the position of the lowest bit that is set, by one instruction; numba has no function for it."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(numba.boolean, True))  # undefined for a mask of zero

    return numba.uint64(numba.uint64), generate


_position: Any = intrinsic(_lowest_bit)


@numba.njit(cache=True, nogil=True)
def count_positive(row_EC: Float[np.ndarray, "E C"], step: int) -> int:
    """Return how many of the numbers in every ``step``-th row are positive."""
    count = 0
    for row in range(0, len(row_EC), step):
        row_C = row_EC[row]
        for column in range(len(row_C)):
            count += row_C[column] > 0
    return count


@numba.njit(cache=True, nogil=True)
def compress(
    row_EC: Float[np.ndarray, "E C"],
    column_S: Int[np.ndarray, " S"],
    value_S: Float[np.ndarray, " S"],
    start_E: Int[np.ndarray, " E+1"],
) -> int:
    """Write the positive numbers of each row and behind them, in column C, a one; return how many numbers these are.

    Args:
        row_EC: the rows.
        column_S: is written: the column of each number, row after row.
        value_S: is written: the number.
        start_E: is written: where each row begins, and the end of the last.
    """
    used = np.uint64(0)
    rows, columns, bits, one = np.uint64(row_EC.shape[0]), np.uint64(row_EC.shape[1]), np.uint64(_BITS), np.uint64(1)
    for row in range(rows):
        start_E[row] = used
        row_C = row_EC[row]
        for first in range(np.uint64(0), columns, bits):
            # Comparing many numbers at once and then going from one bit to the next takes half as long as asking
            # number by number.
            mask = np.uint64(0)
            for bit in range(min(bits, columns - first)):
                mask |= np.uint64(row_C[first + bit] > 0) << bit
            while mask > np.uint64(0):
                column = first + _position(mask)
                column_S[used], value_S[used] = column, row_C[column]
                used += one
                mask &= mask - one
        column_S[used], value_S[used] = columns, 1
        used += one
    start_E[rows] = used
    return int(used)
