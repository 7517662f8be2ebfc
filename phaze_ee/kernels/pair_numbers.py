"""What the kernels of pairs share: which pairs there are, weaver's features of them, and where their numbers belong."""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from phaze_ee.shapes import Float, Int

ANY_SIZE = ["pairs", "particles", "ordered"]  # no kernel is compiled again for a special number of them


class Pairs(NamedTuple):
    """L pairs of V particles, and where they belong among the E ordered ones.

    Attributes:
        own_L: the first particle of each pair, by its row.
        other_L: the second one.
        base_V: of each particle, the place of its ordered pair with a particle, less the row of that particle.
        ordered: E.
        symmetric: a pair stands for both orders.
        complete: all ordered pairs are among them.
    """

    own_L: Int[Tensor, " L"]
    other_L: Int[Tensor, " L"]
    base_V: Int[Tensor, " V"]
    ordered: int
    symmetric: bool
    complete: bool

    def empty(self, heads: int, dtype: torch.dtype) -> Float[Tensor, "H E"]:
        """Return memory for numbers of the ordered pairs, with zeros where pairs are missing."""
        make = torch.empty if self.complete else torch.zeros
        return make(heads, self.ordered, dtype=dtype, device=self.own_L.device)

    def arguments(self) -> dict[str, Any]:
        """Return what the kernels need to find pairs."""
        return {
            "own": self.own_L,
            "other": self.other_L,
            "base": self.base_V,
            "pairs": len(self.own_L),
            "ordered": self.ordered,
            "SYMMETRIC": self.symmetric,
        }


class Momenta(NamedTuple):
    """What weaver's features of pairs are made of.

    Attributes:
        known_7V: pT, rapidity, azimuth, and px, py, pz, E of each particle.
        features: how many: 1 (ln Δ), or the first 3, 4 or 5 of ln kT, ln z, ln Δ, ln m², ln (−(p − q)²).
        epsilon: the least argument of a logarithm.
    """

    known_7V: Float[Tensor, "7 V"]
    features: int
    epsilon: float


@triton.jit
def _both(known, row, own, other, real, particles):
    """Return a row of what is known, of both particles of pairs."""
    first = tl.load(known + row * particles + own, mask=real, other=1.0)
    return first, tl.load(known + row * particles + other, mask=real, other=1.0)


@triton.jit
def _logarithm(number, EPSILON: tl.constexpr):
    return tl.log(tl.where(number < EPSILON, EPSILON, number))


@triton.jit
def _distance(known, own, other, real, particles):
    """Return the distance of two particles in rapidity and azimuth."""
    rapidity, other_rapidity = _both(known, 1, own, other, real, particles)
    azimuth, other_azimuth = _both(known, 2, own, other, real, particles)
    between = azimuth - other_azimuth + 3.141592653589793  # from −π to 3π
    between = tl.where(between < 0, between + 6.283185307179586, between)
    between = tl.where(between >= 6.283185307179586, between - 6.283185307179586, between) - 3.141592653589793
    apart = rapidity - other_rapidity
    return tl.sqrt(apart * apart + between * between)


@triton.jit
def _mass_squared(energy, x, y, z):
    return energy * energy - (x * x + y * y + z * z)


@triton.jit
def features(known, own, other, real, particles, column, FEATURES: tl.constexpr, EPSILON: tl.constexpr):
    """Return weaver's features of pairs, (pairs, columns), zero in columns after the last one."""
    ONE: tl.constexpr = FEATURES == 1
    distance = _distance(known, own, other, real, particles)
    found = tl.where(column[None, :] == (0 if ONE else 2), _logarithm(distance, EPSILON)[:, None], 0.0)
    if FEATURES > 1:
        momentum, other_momentum = _both(known, 0, own, other, real, particles)
        least, both = tl.minimum(momentum, other_momentum), momentum + other_momentum
        both = tl.where(both < EPSILON, EPSILON, both)
        found = tl.where(column[None, :] == 0, _logarithm(least * distance, EPSILON)[:, None], found)
        found = tl.where(column[None, :] == 1, _logarithm(least / both, EPSILON)[:, None], found)
    if FEATURES > 3:
        x, other_x = _both(known, 3, own, other, real, particles)
        y, other_y = _both(known, 4, own, other, real, particles)
        z, other_z = _both(known, 5, own, other, real, particles)
        energy, other_energy = _both(known, 6, own, other, real, particles)
        mass = _mass_squared(energy + other_energy, x + other_x, y + other_y, z + other_z)
        found = tl.where(column[None, :] == 3, _logarithm(mass, EPSILON)[:, None], found)
        if FEATURES > 4:
            interval = -_mass_squared(energy - other_energy, x - other_x, y - other_y, z - other_z)
            found = tl.where(column[None, :] == 4, _logarithm(interval, EPSILON)[:, None], found)
    return found


@triton.jit
def tile_of_pairs(own, other, pairs, PAIRS: tl.constexpr):
    """Return the pairs of a program, whether they exist, and both particles."""
    pair = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    real = pair < pairs
    return pair, real, tl.load(own + pair, mask=real, other=0), tl.load(other + pair, mask=real, other=0)


@triton.jit
def places(base, own, other, real, ordered, head, HEADS: tl.constexpr):
    """Return the places of the ordered pairs, (heads, pairs), and which exist.

    Pairs are the last dimension, so that threads beside each other write numbers beside each other.
    """
    place = tl.load(base + own, mask=real, other=0) + other
    return head.to(tl.int64)[:, None] * ordered + place[None, :], real[None, :] & (head < HEADS)[:, None]


@triton.jit
def store_ordered(
    found, base, own, other, real, out, ordered, head, HEADS: tl.constexpr, SYMMETRIC: tl.constexpr
):  # fmt: skip
    """Store numbers of pairs, (pairs, heads), in the places of their ordered pairs."""
    found = tl.trans(found.to(out.dtype.element_ty))
    place, written = places(base, own, other, real, ordered, head, HEADS)
    tl.store(out + place, found, mask=written)
    if SYMMETRIC:
        place, written = places(base, other, own, real, ordered, head, HEADS)
        tl.store(out + place, found, mask=written)
