"""The compiled steps of an EdgeConv block before, between and after its layers on edges."""

from typing import Any

import numba
import numpy as np
from jaxtyping import Float, Int
from numba.extending import intrinsic

# Number of edges that are summed before the sum is added to the total: this is faster, and rounds less.
_TOGETHER = 4


@numba.njit(cache=True, nogil=True)
def add_pairs(
    particle_SC: Float[np.ndarray, "V+1 C_all"],
    index_Pk: Int[np.ndarray, "P k"],
    first: int,
    edge_EC: Float[np.ndarray, "E C"],
) -> None:
    """Write the sum of the particle's part and the neighbour's part for the k edges of some particles.

    Args:
        particle_SC: C columns with the own part of all V particles, then C columns with their part as a neighbour; more
            columns may follow. Row V is zero.
        index_Pk: the neighbours of P particles, starting at ``first``.
        first: the first of these particles.
        edge_EC: the output, with E = P · k.
    """
    particles, k = index_Pk.shape
    channels = edge_EC.shape[1]
    for particle in range(particles):
        own_C = particle_SC[first + particle, :channels]
        for n in range(k):
            other_C = particle_SC[index_Pk[particle, n], channels : 2 * channels]
            sum_C = edge_EC[particle * k + n]
            for channel in range(channels):
                sum_C[channel] = own_C[channel] + other_C[channel]


@numba.njit(cache=True, nogil=True)
def add_edges(
    shortcut_SC: Float[np.ndarray, "S C_all"],
    column: int,
    first: int,
    edge_EC: Float[np.ndarray, "E C"],
    k: int,
    output_VC: Float[np.ndarray, "V C"],
) -> None:
    """Write ReLU(shortcut + Σ ReLU(edge)) for some particles, with the sum over the k edges of each.

    NaN stays NaN.

    Args:
        shortcut_SC: the shortcut of all particles, in C columns that start at ``column``.
        column: the first of these columns.
        first: the first of P particles.
        edge_EC: the edges of these particles, with E = P · k.
        k: number of edges of each particle.
        output_VC: the output; rows from ``first`` are written.
    """
    channels = output_VC.shape[1]
    for particle in range(len(edge_EC) // k):
        shortcut_C, output_C = shortcut_SC[first + particle], output_VC[first + particle]
        edge_kC = edge_EC[particle * k : (particle + 1) * k]
        for channel in range(channels):
            output_C[channel] = 0
        for n in range(0, k - _TOGETHER + 1, _TOGETHER):
            one_C, two_C, three_C, four_C = edge_kC[n], edge_kC[n + 1], edge_kC[n + 2], edge_kC[n + 3]
            for channel in range(channels):
                output_C[channel] += (_rectified(one_C[channel]) + _rectified(two_C[channel])) + (
                    _rectified(three_C[channel]) + _rectified(four_C[channel])
                )
        for n in range(k - k % _TOGETHER, k):
            edge_C = edge_kC[n]
            for channel in range(channels):
                output_C[channel] += _rectified(edge_C[channel])
        for channel in range(channels):
            output_C[channel] = _rectified(output_C[channel] + shortcut_C[column + channel])


@numba.njit(cache=True, nogil=True)
def _rectified(number: float) -> float:
    return np.float32(0) if number < 0 else number  # type: ignore[return-value]  # exact as a double too


_BITS = 64
_ROWS = np.uint64(16)


def _lowest_bit(typing_context: Any, mask: Any) -> Any:
    """Return the position of the lowest set bit, with one instruction; numba has no function for it."""

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
    """Store the positive numbers of each row, followed by a one in column C, and return how many numbers are stored.

    Stop and return −1 if more than a fraction ``share`` of the numbers is positive.

    Args:
        row_RC: the rows.
        share: the limit, which is checked after every 16 rows and after the last row.
        column_S: output, the column of each number, row after row.
        value_S: output, the numbers.
        start_R: output, the start of each row, and the end of the last.
    """
    rows, columns, bits, one = np.uint64(row_RC.shape[0]), np.uint64(row_RC.shape[1]), np.uint64(_BITS), np.uint64(1)
    used = np.uint64(0)
    for row in range(rows):
        start_R[row] = used
        row_C = row_RC[row]
        for first in range(np.uint64(0), columns, bits):
            # Comparing many numbers at once and then visiting the set bits takes half the time of a comparison for
            # each number.
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
