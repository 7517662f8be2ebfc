"""The compiled loops of ParticleNet on the CPU: the neighbours, and the first and last step of an EdgeConv block."""

from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

from phaze_ee.compiled import compiled
from phaze_ee.shapes import Float, Int

# Number of edges that are summed before the sum is added to the total: this is faster, and rounds less.
_TOGETHER = 4
# Number of dimensions whose squares are added before the sum is stored.
_DIMENSIONS = 4
# Jets are padded to a multiple of this, the number of values that the processor handles at once.
_PLACES = 16
# The compressed rows: numbers per mask, and rows after which the share is asked.
_BITS = 64
_ROWS = np.uint64(16)


@compiled
def find_nearest(
    coordinates_VD: Float[np.ndarray, "V D"], count_N: Int[np.ndarray, " N"], index_Vk: Int[np.ndarray, "V k"]
) -> None:
    """Write the k nearest particles of the same jet, without the particle itself; V for missing neighbours.

    Args:
        coordinates_VD: the particles, jet after jet.
        count_N: particles of each jet.
        index_Vk: the output.
    """
    dimensions, longest = coordinates_VD.shape[1], count_N.max() if len(count_N) else 0
    jet_DP = np.zeros((_filled(dimensions, _DIMENSIONS), _filled(longest, _PLACES)), coordinates_VD.dtype)
    distance_P = np.empty(jet_DP.shape[1], coordinates_VD.dtype)
    nearest_k = np.empty(index_Vk.shape[1], coordinates_VD.dtype)
    first = 0
    for count in count_N:
        for place in range(count):
            for dimension in range(dimensions):
                jet_DP[dimension, place] = coordinates_VD[first + place, dimension]
        for place in range(count):
            _square_distances(jet_DP, place, distance_P[: _filled(count, _PLACES)])
            index_k = index_Vk[first + place]
            for slot in range(len(index_k)):
                index_k[slot] = len(index_Vk)
            _insert_nearest(distance_P[:count], place, first, nearest_k, index_k)
        first += count


@compiled
def _filled(number: int, unit: int) -> int:
    return (number + unit - 1) // unit * unit


@compiled
def _square_distances(jet_DP: Float[np.ndarray, "D P"], itself: int, distance_P: Float[np.ndarray, " P"]) -> None:
    for place in range(len(distance_P)):
        distance_P[place] = 0
    for first in range(0, len(jet_DP), _DIMENSIONS):
        one_P, two_P, three_P, four_P = jet_DP[first], jet_DP[first + 1], jet_DP[first + 2], jet_DP[first + 3]
        one, two, three, four = one_P[itself], two_P[itself], three_P[itself], four_P[itself]
        for place in range(len(distance_P)):
            distance_P[place] += (
                (one - one_P[place]) ** 2
                + (two - two_P[place]) ** 2
                + (three - three_P[place]) ** 2
                + (four - four_P[place]) ** 2
            )


@compiled
def _insert_nearest(
    distance_P: Float[np.ndarray, " P"],
    itself: int,
    first: int,
    nearest_k: Float[np.ndarray, " k"],
    index_k: Int[np.ndarray, " k"],
) -> None:
    """Insert the particles one by one into the sorted list of the nearest ones."""
    found = 0
    for place in range(len(distance_P)):
        distance = distance_P[place]
        if place == itself or (found == len(index_k) and not distance < nearest_k[found - 1]):
            continue
        found = min(found + 1, len(index_k))
        slot = found - 1
        while slot > 0 and nearest_k[slot - 1] > distance:
            nearest_k[slot], index_k[slot] = nearest_k[slot - 1], index_k[slot - 1]
            slot -= 1
        nearest_k[slot], index_k[slot] = distance, first + place


@compiled
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


@compiled
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


@compiled
def _rectified(number: float) -> float:
    return np.float32(0) if number < 0 else number  # type: ignore[return-value]  # exact as a double too


def _lowest_bit(typing_context: Any, mask: Any) -> Any:
    """Return the position of the lowest set bit, with one instruction; numba has no function for it."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(numba.boolean, True))  # undefined for a mask of zero

    return numba.uint64(numba.uint64), generate


_position: Any = intrinsic(_lowest_bit)


@compiled
def compress(
    row_RC: Float[np.ndarray, "R C"],
    share: float,
    column_S: Int[np.ndarray, " S"],
    value_S: Float[np.ndarray, " S"],
    start_R: Int[np.ndarray, " R+1"],
) -> int:
    """Store the positive numbers of each row, followed by a one in column C, and return how many numbers are stored.

    NaN counts as positive, so that it stays NaN. Stop and return −1 if more than a fraction ``share`` of the numbers is
    positive.

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
                mask |= np.uint64(not row_C[first + bit] <= 0) << bit
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
