"""The pairs of particles of each jet: their features, and all layers on them as one kernel, for inference.

A program takes a tile of pairs. It reads what is known of both particles, computes weaver's features, applies all
layers as ``edge_conv.py`` does, and writes the results to both ordered places. No number between is written to memory.
Features of other kinds are read instead. The other kernels are what a training needs before and after its layers, which
are those of ``edge_forward.py`` and ``edge_backward.py``.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from phaze_ee.kernels.activations import Activation, activated, through_activation
from phaze_ee.kernels.edge_backward import added
from phaze_ee.kernels.edge_conv import EdgeLayers, after_pair, block_of
from phaze_ee.kernels.edge_forward import TYPES, product_of, sums_of, tile_of, warps_of, width_of
from phaze_ee.kernels.edge_numbers import normalised, store_gradient_sums
from phaze_ee.shapes import Float, Int

_BLOCK = 32  # channels of a layer that are multiplied at once
_TILE = 128  # pairs of a program that has no products
_ANY_SIZE = ["pairs", "particles", "ordered"]  # no kernel is compiled again for a special number of them


class Pairs(NamedTuple):
    """L pairs of V particles, and where they belong among the E ordered ones.

    Attributes:
        own_L: the first particle of each pair, by its row.
        other_L: the second one.
        base_V: of each particle, the place of its ordered pair with a particle, less the row of that particle.
        ordered: E.
        symmetric: a pair stands for both orders.
    """

    own_L: Int[Tensor, " L"]
    other_L: Int[Tensor, " L"]
    base_V: Int[Tensor, " V"]
    ordered: int
    symmetric: bool

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


def pair_features(momenta: Momenta, pairs: Pairs) -> Float[Tensor, "L F"]:
    """Return weaver's features of pairs."""
    out_LF = momenta.known_7V.new_empty(len(pairs.own_L), momenta.features)
    launch: Any = _features_kernel[(triton.cdiv(len(out_LF), _TILE),)]
    launch(
        momenta.known_7V,
        pairs.own_L,
        pairs.other_L,
        out_LF,
        len(out_LF),
        momenta.known_7V.shape[1],
        FEATURES=momenta.features,
        EPSILON=momenta.epsilon,
        PAIRS=_TILE,
        WIDTH=width_of(momenta.features),
        num_warps=4,
    )
    return out_LF


def pair_layers(
    source: Momenta | Float[Tensor, "L F"],
    pairs: Pairs,
    scale_shift_2F: Float[Tensor, "2 F"],
    layers: EdgeLayers,
    activation: Activation,
    *,
    last: Activation,
) -> Float[Tensor, "H E"]:
    """Return the results of layers on the features of pairs in the places of the ordered pairs, zero where is none.

    Args:
        source: of the features, or the features themselves.
        pairs: one at least.
        scale_shift_2F: applied to features before the first layer.
        layers: the layers.
        activation: between the layers.
        last: the activation after the last layer.
    """
    stored = source.known_7V if isinstance(source, Momenta) else source
    kind, sums = layers.weight_LCC.dtype, sums_of(stored.dtype)
    count, width, _ = layers.weight_LCC.shape
    tile = tile_of(width, kind)
    out_HE = torch.zeros(layers.outputs, pairs.ordered, dtype=kind, device=stored.device)
    launch: Any = _pair_layers[(triton.cdiv(len(pairs.own_L), tile),)]
    launch(
        stored,
        constant=scale_shift_2F,
        weight=layers.weight_LCC,
        bias=layers.bias_LC,
        out=out_HE,
        particles=stored.shape[1],
        COMPUTED=isinstance(source, Momenta),
        FEATURES=layers.channels,
        EPSILON=source.epsilon if isinstance(source, Momenta) else 0.0,
        HEADS=layers.outputs,
        LAYERS=count,
        ACTIVATION=activation,
        LAST=last,
        PAIRS=tile,
        INPUTS=width_of(layers.channels),
        WIDTH=width,
        OUTPUTS=width_of(layers.outputs),
        BLOCK=min(_BLOCK, width),
        TYPE=TYPES[kind],
        SUM=TYPES[sums],
        PRODUCT=product_of(kind),
        num_warps=warps_of(width),
        num_stages=2,
        **pairs.arguments(),
    )
    return out_HE


def ordered_pairs(
    stored: Float[Tensor, "L H"], pairs: Pairs, constant_6C: Float[Tensor, "6 H"], activation: Activation
) -> Float[Tensor, "H E"]:
    """Return the numbers of a layer, normalised and activated, in the places of the ordered pairs, zero where is none.

    Args:
        stored: the numbers.
        pairs: one at least.
        constant_6C: scale and shift of the normalisation, in the first two rows.
        activation: after the normalisation.
    """
    channels = stored.shape[1]
    out_HE = stored.new_zeros(channels, pairs.ordered)
    launch: Any = _ordered_pairs[(triton.cdiv(len(stored), _TILE),)]
    launch(
        stored=stored,
        constant=constant_6C,
        out=out_HE,
        HEADS=channels,
        ACTIVATION=activation,
        PAIRS=_TILE,
        WIDTH=width_of(channels),
        SUM=TYPES[constant_6C.dtype],
        num_warps=4,
        **pairs.arguments(),
    )
    return out_HE


def ordered_gradient(
    d_out_HE: Float[Tensor, "H E"],
    stored: Float[Tensor, "L H"],
    pairs: Pairs,
    constant_6C: Float[Tensor, "6 H"],
    activation: Activation,
) -> tuple[Float[Tensor, "L H"], Float[Tensor, "2 H"]]:
    """Return the gradient of the normalised numbers, before the activation, and its sums as the layers need them.

    Args:
        d_out_HE: the gradient of the result of :func:`ordered_pairs`.
        stored: its numbers.
        pairs: its pairs.
        constant_6C: scale, shift and, in the last row, mean of the normalisation.
        activation: after the normalisation.
    """
    channels = stored.shape[1]
    out_LH = torch.empty_like(stored)
    sums_T2H = constant_6C.new_empty(triton.cdiv(len(stored), _TILE), 2, channels)
    launch: Any = _ordered_gradient[(len(sums_T2H),)]
    launch(
        given=d_out_HE,
        stored=stored,
        constant=constant_6C,
        out=out_LH,
        sums_out=sums_T2H,
        HEADS=channels,
        ACTIVATION=activation,
        PAIRS=_TILE,
        WIDTH=width_of(channels),
        SUM=TYPES[constant_6C.dtype],
        num_warps=4,
        **pairs.arguments(),
    )
    return out_LH, added(sums_T2H)


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
def _features(known, own, other, real, particles, column, FEATURES: tl.constexpr, EPSILON: tl.constexpr):
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


@triton.jit(do_not_specialize=_ANY_SIZE)
def _features_kernel(
    known, own, other, out, pairs, particles,
    FEATURES: tl.constexpr, EPSILON: tl.constexpr, PAIRS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    pair, real, first, second = _tile(own, other, pairs, PAIRS)
    column = tl.arange(0, WIDTH)
    found = _features(known, first, second, real, particles, column, FEATURES, EPSILON)
    written = real[:, None] & (column < FEATURES)[None, :]
    tl.store(out + pair[:, None] * FEATURES + column[None, :], found, mask=written)


@triton.jit
def _tile(own, other, pairs, PAIRS: tl.constexpr):
    """Return the pairs of a program, whether they exist, and both particles."""
    pair = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    real = pair < pairs
    return pair, real, tl.load(own + pair, mask=real, other=0), tl.load(other + pair, mask=real, other=0)


@triton.jit
def _places(base, own, other, real, ordered, head, HEADS: tl.constexpr):
    """Return the places of the ordered pairs, (heads, pairs), and which exist.

    Pairs are the last dimension, so that threads beside each other write numbers beside each other.
    """
    place = tl.load(base + own, mask=real, other=0) + other
    return head.to(tl.int64)[:, None] * ordered + place[None, :], real[None, :] & (head < HEADS)[:, None]


@triton.jit
def _store_ordered(
    found, base, own, other, real, out, ordered, head, HEADS: tl.constexpr, SYMMETRIC: tl.constexpr
):  # fmt: skip
    """Store numbers of pairs, (pairs, heads), in the places of their ordered pairs."""
    found = tl.trans(found.to(out.dtype.element_ty))
    place, written = _places(base, own, other, real, ordered, head, HEADS)
    tl.store(out + place, found, mask=written)
    if SYMMETRIC:
        place, written = _places(base, other, own, real, ordered, head, HEADS)
        tl.store(out + place, found, mask=written)


@triton.jit(do_not_specialize=_ANY_SIZE)
def _pair_layers(
    stored, own, other, base, constant, weight, bias, out, pairs, particles, ordered,
    SYMMETRIC: tl.constexpr, COMPUTED: tl.constexpr, FEATURES: tl.constexpr, EPSILON: tl.constexpr,
    HEADS: tl.constexpr, LAYERS: tl.constexpr, ACTIVATION: tl.constexpr, LAST: tl.constexpr, PAIRS: tl.constexpr,
    INPUTS: tl.constexpr, WIDTH: tl.constexpr, OUTPUTS: tl.constexpr, BLOCK: tl.constexpr, TYPE: tl.constexpr,
    SUM: tl.constexpr, PRODUCT: tl.constexpr,
):  # fmt: skip
    pair, real, first, second = _tile(own, other, pairs, PAIRS)
    column = tl.arange(0, INPUTS)
    if COMPUTED:
        found = _features(stored, first, second, real, particles, column, FEATURES, EPSILON)
    else:
        read = real[:, None] & (column < FEATURES)[None, :]
        found = tl.load(stored + pair[:, None] * FEATURES + column[None, :], mask=read, other=0.0)
    before = normalised(found, constant, column, FEATURES).to(TYPE)
    if LAYERS > 1:
        total = after_pair(
            before, weight, bias, PAIRS, INPUTS, OUTPUTS if LAYERS == 2 else WIDTH, WIDTH, BLOCK,
            ACTIVATION, TYPE, SUM, PRODUCT,
        )  # fmt: skip
        for double in tl.static_range(1, LAYERS // 2):
            total = after_pair(
                activated(total, ACTIVATION).to(TYPE),
                weight + 2 * double * WIDTH * WIDTH, bias + 2 * double * WIDTH,
                PAIRS, WIDTH, OUTPUTS if 2 * double + 2 == LAYERS else WIDTH, WIDTH, BLOCK,
                ACTIVATION, TYPE, SUM, PRODUCT,
            )  # fmt: skip
        if LAYERS % 2 == 1:
            before = activated(total, ACTIVATION).to(TYPE)
    head = tl.arange(0, OUTPUTS)
    if LAYERS % 2 == 1:
        place = LAYERS - 1
        total = block_of(
            before, weight + place * WIDTH * WIDTH, bias + place * WIDTH, head,
            INPUTS if LAYERS == 1 else WIDTH, WIDTH, SUM, PRODUCT,
        )  # fmt: skip
    _store_ordered(activated(total, LAST), base, first, second, real, out, ordered, head, HEADS, SYMMETRIC)


@triton.jit(do_not_specialize=_ANY_SIZE)
def _ordered_pairs(
    stored, own, other, base, constant, out, pairs, ordered,
    SYMMETRIC: tl.constexpr, HEADS: tl.constexpr, ACTIVATION: tl.constexpr, PAIRS: tl.constexpr, WIDTH: tl.constexpr,
    SUM: tl.constexpr,
):  # fmt: skip
    pair, real, first, second = _tile(own, other, pairs, PAIRS)
    head = tl.arange(0, WIDTH)
    read = real[:, None] & (head < HEADS)[None, :]
    found = tl.load(stored + pair[:, None] * HEADS + head[None, :], mask=read, other=0.0).to(SUM)
    found = activated(normalised(found, constant, head, HEADS), ACTIVATION)
    _store_ordered(found, base, first, second, real, out, ordered, head, HEADS, SYMMETRIC)


@triton.jit(do_not_specialize=_ANY_SIZE)
def _ordered_gradient(
    given, stored, own, other, base, constant, out, sums_out, pairs, ordered,
    SYMMETRIC: tl.constexpr, HEADS: tl.constexpr, ACTIVATION: tl.constexpr, PAIRS: tl.constexpr, WIDTH: tl.constexpr,
    SUM: tl.constexpr,
):  # fmt: skip
    pair, real, first, second = _tile(own, other, pairs, PAIRS)
    head = tl.arange(0, WIDTH)
    place, read = _places(base, first, second, real, ordered, head, HEADS)
    after = tl.load(given + place, mask=read, other=0.0).to(SUM)
    if SYMMETRIC:
        place, read = _places(base, second, first, real & (first != second), ordered, head, HEADS)
        after += tl.load(given + place, mask=read, other=0.0).to(SUM)
    inside = real[:, None] & (head < HEADS)[None, :]
    found = tl.load(stored + pair[:, None] * HEADS + head[None, :], mask=inside, other=0.0).to(SUM)
    after = through_activation(tl.trans(after), normalised(found, constant, head, HEADS), ACTIVATION)
    rounded = after.to(out.dtype.element_ty)
    tl.store(out + pair[:, None] * HEADS + head[None, :], rounded, mask=inside)
    tile = tl.program_id(0).to(tl.int64)
    store_gradient_sums(found, rounded.to(SUM), constant, head, tile, sums_out, HEADS)
