"""The nearest neighbours of particles, searched jet by jet."""

import numba
import numpy as np
from jaxtyping import Float, Int

# Dimensions whose squares are added before the sum goes back to memory.
_DIMENSIONS = 4
# Jets are filled up to a multiple of so many places: the processor works on so many at once.
_PLACES = 16


@numba.njit(cache=True, nogil=True)
def find_nearest(
    coordinates_VD: Float[np.ndarray, "V D"], count_N: Int[np.ndarray, " N"], index_Vk: Int[np.ndarray, "V k"]
) -> None:
    """Write the k nearest particles of the same jet, the particle itself left out; V where there are not so many.

    Args:
        coordinates_VD: the particles, jet after jet.
        count_N: how many particles each jet has.
        index_Vk: is written.
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


@numba.njit(cache=True, nogil=True)
def _filled(number: int, unit: int) -> int:
    return (number + unit - 1) // unit * unit


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
def _insert_nearest(
    distance_P: Float[np.ndarray, " P"],
    itself: int,
    first: int,
    nearest_k: Float[np.ndarray, " k"],
    index_k: Int[np.ndarray, " k"],
) -> None:
    """Insert one particle after the other into the list of the nearest so far."""
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
