"""The edges of padded slots in training, of all jets in one launch."""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from phaze_ee.kernels.rounding import FUSED
from phaze_ee.kernels.sizes import power_of_two
from phaze_ee.shapes import Float, Int

_COLUMNS = 16  # coordinates that are added at once


def padding_edges(
    coordinates_VD: Float[Tensor, "V D"],
    first_N: Int[Tensor, " N"],
    count_N: Int[Tensor, " N"],
    length: int,
    out: tuple[Int[Tensor, "N k"], Float[Tensor, " N"]],
) -> None:
    """Compute the neighbours of a padded slot of each jet, and the number of these slots.

    ``phaze_ee/models/particle_net/padding.py`` says which particles they are.

    Args:
        coordinates_VD: the particles, jet after jet.
        first_N: the first particle of each jet.
        count_N: the particles of each jet.
        length: the slots of each jet, more than k.
        out: both are written here. Neighbour V is padding.
    """
    neighbour_Nk, weight_N = out
    particles, dimensions = coordinates_VD.shape
    jets, k = neighbour_Nk.shape
    if jets:
        launch: Any = _padding_edges[(jets,)]
        launch(
            coordinates_VD.contiguous(), first_N, count_N, neighbour_Nk, weight_N, particles, dimensions, length, k,
            SLOTS=power_of_two(length), COLUMNS=_COLUMNS, **FUSED,
        )  # fmt: skip


@triton.jit(do_not_specialize=["particles", "length"])
def _padding_edges(
    x, first_of, count_of, neighbour_out, weight_out, particles, dimensions, length, k,
    SLOTS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    jet = tl.program_id(0).to(tl.int64)
    first, count = tl.load(first_of + jet), tl.load(count_of + jet)
    padding = length - count
    wanted = tl.where((padding > 0) & (padding <= k), k + 1 - padding, 0)
    slot = tl.arange(0, SLOTS)
    left = slot < count
    sums = tl.zeros([SLOTS, COLUMNS], x.dtype.element_ty)
    for begin in range(0, tl.where(wanted > 0, dimensions, 0), COLUMNS):
        column = begin + tl.arange(0, COLUMNS)
        read = left[:, None] & (column < dimensions)[None, :]
        sums += tl.load(x + (first + slot)[:, None] * dimensions + column[None, :], mask=read, other=0.0)
    total = tl.sum(sums, axis=1)
    for one in range(k):
        best = tl.max(tl.where(left, total, -float("inf")), axis=0)
        chosen = tl.min(tl.where(left & (total == best), slot, SLOTS), axis=0)  # of equal ones, the first
        neighbour = tl.where((one < wanted) & (chosen < SLOTS), first + chosen, particles)
        tl.store(neighbour_out + jet * k + one, neighbour)
        left = left & (slot != chosen)
    tl.store(weight_out + jet, padding.to(weight_out.dtype.element_ty))
