"""The k nearest neighbours of each particle in its jet, without padding."""

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from phaze_ee.models.states import JetGroup, JetLayout

# Number of dimensions whose squares are added before the sum is stored.
_DIMENSIONS = 4
# Jets are padded to a multiple of this, the number of values that the processor handles at once.
_PLACES = 16


@numba.njit(cache=True, nogil=True)
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


_INFINITY = float("inf")


@torch.no_grad()
def nearest_neighbours(coordinates_VD: Float[Tensor, "V D"], layout: JetLayout, k: int) -> Int[Tensor, "V k"]:
    """Return the rows of the k nearest particles of the same jet, without the particle itself, in any order.

    Row V is a missing neighbour, if the jet has fewer than k other particles. There, weaver uses padding, whose
    features are zero.

    At equal distances the choice is arbitrary, as in weaver. weaver takes the first k + 1 of ``torch.topk`` and drops
    the first one. If another particle has the same coordinates, it may drop that one and keep the particle as its own
    neighbour, depending on the padding. Here a particle is never its own neighbour, so the answer does not depend on
    the order of the particles.
    """
    if coordinates_VD.device.type != "cpu":
        return in_groups(coordinates_VD, layout, k)
    index_Vk = layout.count_N.new_empty(len(coordinates_VD), k)
    find_nearest(coordinates_VD.detach().contiguous().numpy(), layout.count_N.contiguous().numpy(), index_Vk.numpy())
    return index_Vk


def in_groups(coordinates_VD: Float[Tensor, "V D"], layout: JetLayout, k: int) -> Int[Tensor, "V k"]:
    """Return the neighbours as :func:`nearest_neighbours`, from many jets at once, which is faster on a GPU."""
    index_Vk = layout.count_N.new_empty(len(coordinates_VD), k)
    for group in layout.groups:
        index_Vk[group.row_R] = _in_group(coordinates_VD, group, k)
    return index_Vk


def _in_group(coordinates_VD: Tensor, group: JetGroup, k: int) -> Int[Tensor, "R k"]:
    coordinates_GMD = coordinates_VD.index_select(0, group.row_GM.flatten()).view(*group.row_GM.shape, -1)
    square_GM = coordinates_GMD.square().sum(dim=-1).masked_fill_(~group.valid_GM, _INFINITY)
    # |x_i − x_j|² without |x_i|², which is the same for all j.
    distance_GMM = torch.baddbmm(square_GM[:, None], coordinates_GMD, coordinates_GMD.transpose(1, 2), alpha=-2)
    distance_GMM.diagonal(dim1=1, dim2=2).fill_(_INFINITY)
    found = min(k, distance_GMM.shape[-1])
    distance_RM = distance_GMM.flatten(0, 1).index_select(0, group.slot_R)
    nearest_Rk, position_Rk = distance_RM.topk(found, dim=-1, largest=False, sorted=False)
    none = len(coordinates_VD)
    index_Rk = (position_Rk + group.first_R[:, None]).masked_fill_(nearest_Rk == _INFINITY, none)
    return pad(index_Rk, (0, k - found), value=none)
