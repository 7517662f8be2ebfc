"""All layers on the pairs of particles of each jet as one kernel, for inference.

A program takes a tile of pairs. It reads what is known of both particles, computes weaver's features, applies all
layers as ``edge_conv.py`` does, and writes the results to both ordered places. No number between is written to memory.
Features of other kinds are read instead.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from phaze_ee.kernels.activations import Activation, activated
from phaze_ee.kernels.edge_conv import EdgeLayers, after_pair, block_of
from phaze_ee.kernels.edge_forward import TYPES, product_of, sums_of, tile_of, warps_of, width_of
from phaze_ee.kernels.edge_numbers import normalised
from phaze_ee.kernels.pair_numbers import ANY_SIZE, Momenta, Pairs, features, store_ordered, tile_of_pairs
from phaze_ee.kernels.rounding import AS_TORCH
from phaze_ee.kernels.sizes import tiles_of
from phaze_ee.shapes import Float

_BLOCK = 32  # channels of a layer that are multiplied at once


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
    out_HE = pairs.empty(layers.outputs, kind)
    launch: Any = _pair_layers[(tiles_of(len(pairs.own_L), tile),)]
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
        **AS_TORCH,
        **pairs.arguments(),
    )
    return out_HE


@triton.jit(do_not_specialize=ANY_SIZE)
def _pair_layers(
    stored, own, other, base, constant, weight, bias, out, pairs, particles, ordered,
    SYMMETRIC: tl.constexpr, COMPUTED: tl.constexpr, FEATURES: tl.constexpr, EPSILON: tl.constexpr,
    HEADS: tl.constexpr, LAYERS: tl.constexpr, ACTIVATION: tl.constexpr, LAST: tl.constexpr, PAIRS: tl.constexpr,
    INPUTS: tl.constexpr, WIDTH: tl.constexpr, OUTPUTS: tl.constexpr, BLOCK: tl.constexpr, TYPE: tl.constexpr,
    SUM: tl.constexpr, PRODUCT: tl.constexpr,
):  # fmt: skip
    pair, real, first, second = tile_of_pairs(own, other, pairs, PAIRS)
    column = tl.arange(0, INPUTS)
    if COMPUTED:
        found = features(stored, first, second, real, particles, column, FEATURES, EPSILON)
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
    store_ordered(activated(total, LAST), base, first, second, real, out, ordered, head, HEADS, SYMMETRIC)
