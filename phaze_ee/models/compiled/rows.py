"""Rows of which many numbers are zero, stored by those that are not."""

from typing import Any

import numba
import numpy as np
from jaxtyping import Float, Int
from numba.extending import intrinsic

_BITS = 64
_ROWS = np.uint64(16)


def _lowest_bit(typing_context: Any, mask: Any) -> Any:
    """Return the position of the lowest bit that is set, by one instruction; numba has no function for it."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(numba.boolean, True))  # undefined for a mask of zero

    return numba.uint64(numba.uint64), generate


_position: Any = intrinsic(_lowest_bit)


@numba.njit(cache=True, nogil=True)
def compress(
    row_RC: Float[np.ndarray, "R C"],
    share: float,
    column_S: Int[np.ndarray, " S"],
    value_S: Float[np.ndarray, " S"],
    start_R: Int[np.ndarray, " R+1"],
) -> int:
    """Write the positive numbers of each row and behind them, in column C, a one; return how many numbers these are.

    Or give up and return −1, where more than ``share`` of the numbers are positive.

    Args:
        row_RC: the rows.
        share: of the numbers, asked after every 16 rows, and after the last.
        column_S: is written: the column of each number, row after row.
        value_S: is written: the number.
        start_R: is written: where each row begins, and the end of the last.
    """
    rows, columns, bits, one = np.uint64(row_RC.shape[0]), np.uint64(row_RC.shape[1]), np.uint64(_BITS), np.uint64(1)
    used = np.uint64(0)
    for row in range(rows):
        start_R[row] = used
        row_C = row_RC[row]
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
        asked = row % _ROWS == _ROWS - one or row == rows - one
        if asked and used > share * ((row + one) * (columns + one)):
            return -1
    start_R[rows] = used
    return np.int64(used)  # type: ignore[return-value]  # or it would be a float, as the common type with −1
