"""The k nearest neighbours of each particle in its jet, as one kernel on jets of any length.

A program takes a few consecutive particles and walks over the particles of their jets, a tile at a time. It keeps a
list of the k nearest ones. So no jet is padded, and the host need not know the longest jet.

Squared distances are sums of squares of differences, added in the order of the loop for the CPU and without fused
multiply-adds. So they are the same numbers, and ties go to the same particles: to those that come first.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from phaze_ee.kernels.rounding import AS_TORCH
from phaze_ee.kernels.sizes import power_of_two, tiles_of
from phaze_ee.shapes import Float, Int

MOST_NEIGHBOURS = 64
# Particles of a program, and particles in a tile of those among which it searches.
_ROWS, _TILE = 16, 64


def nearest_neighbours(
    coordinates_VD: Float[Tensor, "V D"],
    jet_V: Int[Tensor, " V"],
    first_N: Int[Tensor, " N"],
    count_N: Int[Tensor, " N"],
    k: int,
) -> Int[Tensor, "V k"]:
    """Return the rows of the k nearest particles of the same jet, without the particle itself, in any order.

    Row V is a missing neighbour.

    Args:
        coordinates_VD: the particles in float32 or float64, jet after jet.
        jet_V: the jet of each particle.
        first_N: the first particle of each jet.
        count_N: the particles of each jet.
        k: at most :data:`MOST_NEIGHBOURS`.
    """
    particles, dimensions = coordinates_VD.shape
    coordinates_VD = coordinates_VD.contiguous()
    index_Vk = count_N.new_empty(particles, k)
    if not particles:
        return index_Vk
    launch: Any = _nearest[(tiles_of(particles, _ROWS),)]
    launch(
        coordinates_VD,
        jet_V,
        first_N,
        count_N,
        index_Vk,
        particles,
        dimensions,
        k,
        SLOTS=power_of_two(k),
        ROWS=_ROWS,
        TILE=_TILE,
        NUMBER=tl.int64 if coordinates_VD.dtype == torch.float64 else tl.int32,
        NONE=torch.iinfo(torch.int64 if coordinates_VD.dtype == torch.float64 else torch.int32).max,
        **AS_TORCH,
    )
    return index_Vk


@triton.jit
def _square(x, row, column, row_real, column_real, dimension, dimensions):
    # Added to a vector, because a comparison of two numbers is no mask in the interpreter.
    own_real = row_real & (dimension + tl.zeros_like(row) < dimensions)
    other_real = column_real & (dimension + tl.zeros_like(column) < dimensions)
    own = tl.load(x + row * dimensions + dimension, mask=own_real, other=0.0)
    other = tl.load(x + column * dimensions + dimension, mask=other_real, other=0.0)
    difference = own[:, None] - other[None, :]
    return difference * difference


@triton.jit
def _nearest(
    x,
    jet_of,
    first_of,
    count_of,
    index_out,
    particles,
    dimensions,
    k,
    SLOTS: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    NUMBER: tl.constexpr,
    NONE: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    row_real = row < particles
    jet = tl.load(jet_of + row, mask=row_real, other=0)
    first = tl.load(first_of + jet, mask=row_real, other=particles)
    end = tl.where(row_real, first + tl.load(count_of + jet, mask=row_real, other=0), 0)
    slot = tl.arange(0, SLOTS)
    # Squares have no sign, so their bits, as whole numbers, have their order. A slot after the k-th is never the worst.
    nearest = tl.where(slot[None, :] < k, NONE, -1).to(NUMBER) + tl.zeros([ROWS, SLOTS], NUMBER)
    index = (particles + slot[None, :]).to(tl.int64) + tl.zeros([ROWS, SLOTS], tl.int64)
    for start in range(tl.min(first, axis=0), tl.max(end, axis=0), TILE):
        column = start + tl.arange(0, TILE).to(tl.int64)
        column_real = column < particles
        distance = tl.zeros([ROWS, TILE], x.dtype.element_ty)
        for one in range(0, dimensions, 4):
            together = _square(x, row, column, row_real, column_real, one, dimensions)
            together += _square(x, row, column, row_real, column_real, one + 1, dimensions)
            together += _square(x, row, column, row_real, column_real, one + 2, dimensions)
            together += _square(x, row, column, row_real, column_real, one + 3, dimensions)
            distance += together
        # Not a number is farther than infinity, whatever its sign, and nearer than no particle.
        key = tl.minimum(distance.to(NUMBER, bitcast=True) & NONE, NONE - 1)
        same_jet = (column[None, :] >= first[:, None]) & (column[None, :] < end[:, None])
        key = tl.where(same_jet & (column[None, :] != row[:, None]), key, NONE)
        for _ in range(k):
            best = tl.min(key, axis=1)
            chosen = tl.min(tl.where(key == best[:, None], column[None, :], 2 * particles + TILE), axis=1)
            worst = tl.max(nearest, axis=1)
            last = tl.max(tl.where(nearest == worst[:, None], index, -1), axis=1)
            replaced = (index == last[:, None]) & (best < worst)[:, None]
            nearest = tl.where(replaced, best[:, None], nearest)
            index = tl.where(replaced, chosen[:, None], index)
            key = tl.where(column[None, :] == chosen[:, None], NONE, key)
    stored = row_real[:, None] & (slot < k)[None, :]
    tl.store(index_out + row[:, None] * k + slot[None, :], tl.minimum(index, particles), mask=stored)
