"""The first and the last step of an EdgeConv block, which come before and behind its layers on edges."""

import numba
import numpy as np
from jaxtyping import Float, Int

# Edges that are added to each other before their sum is added to those before: less is rounded, and it is faster.
_TOGETHER = 4


@numba.njit(cache=True, nogil=True)
def add_pairs(
    particle_SC: Float[np.ndarray, "V+1 C_all"],
    index_Pk: Int[np.ndarray, "P k"],
    first: int,
    edge_EC: Float[np.ndarray, "E C"],
) -> None:
    """Add, for the k edges of each of some particles, the particle's part and the neighbour's.

    Args:
        particle_SC: the part of all V particles, beside it the part as a neighbour; more may follow. Row V is zero.
        index_Pk: the neighbours of the particles from ``first`` on.
        first: the first of these particles.
        edge_EC: is written, E = P · k.
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

    What is not a number stays so.

    Args:
        shortcut_SC: the particles of which the C columns from ``column`` on are the shortcut.
        column: the first of these.
        first: the first of the particles.
        edge_EC: their edges, E = P · k.
        k: how many each has.
        output_VC: is written, from ``first`` on.
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
