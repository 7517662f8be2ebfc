"""What a training step on pairs of particles needs before and after its layers: features, and numbers in both orders.

The layers between are those of ``edge_forward.py`` and ``edge_backward.py``, on rows that are stored.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from phaze_ee.kernels.activations import Activation, activated, through_activation
from phaze_ee.kernels.edge_backward import added
from phaze_ee.kernels.edge_forward import TYPES, width_of
from phaze_ee.kernels.edge_numbers import normalised, store_gradient_sums
from phaze_ee.kernels.pair_numbers import (
    ANY_SIZE,
    Momenta,
    Pairs,
    features,
    places,
    store_ordered,
    tile_of_pairs,
)
from phaze_ee.kernels.rounding import AS_TORCH, FUSED
from phaze_ee.kernels.sizes import tiles_of
from phaze_ee.shapes import Float

_TILE = 128  # pairs of a program


def pair_features(momenta: Momenta, pairs: Pairs) -> Float[Tensor, "L F"]:
    """Return weaver's features of pairs."""
    out_LF = momenta.known_7V.new_empty(len(pairs.own_L), momenta.features)
    launch: Any = _features_kernel[(tiles_of(len(out_LF), _TILE),)]
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
        **AS_TORCH,
    )
    return out_LF


def ordered_pairs(
    stored: Float[Tensor, "L H"], pairs: Pairs, constant_6C: Float[Tensor, "6 H"], activation: Activation
) -> Float[Tensor, "H E"]:
    """Return the numbers of a layer, normalised and activated, in the places of the ordered pairs, zero where is none.

    Args:
        stored: the numbers.
        pairs: those that have numbers.
        constant_6C: scale and shift of the normalisation, in the first two rows.
        activation: after the normalisation.
    """
    channels = stored.shape[1]
    out_HE = pairs.empty(channels, stored.dtype)
    launch: Any = _ordered_pairs[(tiles_of(len(stored), _TILE),)]
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
        **FUSED,
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
    sums_T2H = constant_6C.new_empty(tiles_of(len(stored), _TILE), 2, channels)
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
        **FUSED,
        **pairs.arguments(),
    )
    return out_LH, added(sums_T2H)


@triton.jit(do_not_specialize=ANY_SIZE)
def _features_kernel(
    known, own, other, out, pairs, particles,
    FEATURES: tl.constexpr, EPSILON: tl.constexpr, PAIRS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    pair, real, first, second = tile_of_pairs(own, other, pairs, PAIRS)
    column = tl.arange(0, WIDTH)
    found = features(known, first, second, real, particles, column, FEATURES, EPSILON)
    written = real[:, None] & (column < FEATURES)[None, :]
    tl.store(out + pair[:, None] * FEATURES + column[None, :], found, mask=written)


@triton.jit(do_not_specialize=ANY_SIZE)
def _ordered_pairs(
    stored, own, other, base, constant, out, pairs, ordered,
    SYMMETRIC: tl.constexpr, HEADS: tl.constexpr, ACTIVATION: tl.constexpr, PAIRS: tl.constexpr, WIDTH: tl.constexpr,
    SUM: tl.constexpr,
):  # fmt: skip
    pair, real, first, second = tile_of_pairs(own, other, pairs, PAIRS)
    head = tl.arange(0, WIDTH)
    read = real[:, None] & (head < HEADS)[None, :]
    found = tl.load(stored + pair[:, None] * HEADS + head[None, :], mask=read, other=0.0).to(SUM)
    found = activated(normalised(found, constant, head, HEADS), ACTIVATION)
    store_ordered(found, base, first, second, real, out, ordered, head, HEADS, SYMMETRIC)


@triton.jit(do_not_specialize=ANY_SIZE)
def _ordered_gradient(
    given, stored, own, other, base, constant, out, sums_out, pairs, ordered,
    SYMMETRIC: tl.constexpr, HEADS: tl.constexpr, ACTIVATION: tl.constexpr, PAIRS: tl.constexpr, WIDTH: tl.constexpr,
    SUM: tl.constexpr,
):  # fmt: skip
    pair, real, first, second = tile_of_pairs(own, other, pairs, PAIRS)
    head = tl.arange(0, WIDTH)
    place, read = places(base, first, second, real, ordered, head, HEADS)
    after = tl.load(given + place, mask=read, other=0.0).to(SUM)
    if SYMMETRIC:
        place, read = places(base, second, first, real & (first != second), ordered, head, HEADS)
        after += tl.load(given + place, mask=read, other=0.0).to(SUM)
    inside = real[:, None] & (head < HEADS)[None, :]
    found = tl.load(stored + pair[:, None] * HEADS + head[None, :], mask=inside, other=0.0).to(SUM)
    after = through_activation(tl.trans(after), normalised(found, constant, head, HEADS), ACTIVATION)
    rounded = after.to(out.dtype.element_ty)
    tl.store(out + pair[:, None] * HEADS + head[None, :], rounded, mask=inside)
    tile = tl.program_id(0).to(tl.int64)
    store_gradient_sums(found, rounded.to(SUM), constant, head, tile, sums_out, HEADS)
