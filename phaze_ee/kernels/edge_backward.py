"""The backward pass of the edges of an EdgeConv block. What the forward pass did not store is computed again.

Nothing is added atomically, so a training is repeated bit for bit: sums over tiles are written and added by torch, and
a neighbour adds up its edges in the order of a sorted list.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from phaze_ee.kernels.activations import Activation, activated, through_activation
from phaze_ee.kernels.edge_forward import TYPES, Edges, Rows, product_of, tile_of, warps_of, width_of
from phaze_ee.kernels.edge_numbers import (
    counted,
    gradient,
    normalised,
    number,
    store_gradient_sums,
    summed_through_normalisation,
    through_normalisation,
)
from phaze_ee.kernels.sizes import tiles_of
from phaze_ee.shapes import Float

_BLOCK = 32  # channels of a layer that are multiplied at once
# Rows and columns of weights whose gradient a program adds up: in half precision, and in float32, which takes twice
# the shared memory.
_SQUARE, _FLOAT32_SQUARE = 128, 64
_SPLITS = 256  # programs that share the edges of a gradient of weights
# Edges of a step of such a program, and its warps in float32: with more edges or fewer warps the compiler spills
# registers for compute capability 8.0.
_EDGES_OF_WEIGHTS, _FLOAT32_EDGES_OF_WEIGHTS, _FLOAT32_WARPS = 64, 32, 8
_ROWS = 8  # particles of a program that adds up edges


def last_gradient_sums(
    edges: Edges,
    stored: Float[Tensor, "E C"] | None,
    constant_6C: Float[Tensor, "6 C"],
    d_mean_VC: Float[Tensor, "V C"],
) -> Float[Tensor, "2 C"]:
    """Return the sums over edges of the gradient of the last layer, after its normalisation, and times z − μ.

    Args:
        edges: the first layer.
        stored: the numbers z of the last layer; None: it is the first.
        constant_6C: scale, shift and, in the last row, mean μ of its normalisation.
        d_mean_VC: the gradient of the mean over neighbours.
    """
    particles, channels = d_mean_VC.shape
    count, width = particles * edges.neighbour_Uk.shape[1], width_of(channels)
    sums_T2C = constant_6C.new_empty(tiles_of(count, tile_of(width, edges.own_UC.dtype, backward=True)), 2, channels)
    if count:
        launch: Any = _last_gradient_sums[(len(sums_T2C),)]
        launch(
            edges=count,
            particles=particles,
            constant=constant_6C,
            given=d_mean_VC,
            sums_out=sums_T2C,
            EDGES=tile_of(width, edges.own_UC.dtype, backward=True),
            WIDTH=width,
            num_warps=warps_of(width),
            **edges.arguments(stored, channels),
        )
    return added(sums_T2C)


def layer_before(
    edges: Rows,
    stored: tuple[Float[Tensor, "E C_in"] | None, Float[Tensor, "E C_out"]],
    constants: tuple[Float[Tensor, "6 C_in"], Float[Tensor, "6 C_out"]],
    weight_CC: Float[Tensor, "C_out C_in"],
    given: Tensor,
    activation: Activation,
    *,
    last: bool,
) -> tuple[Float[Tensor, "E C_in"], Float[Tensor, "2 C_in"]]:
    """Return the gradient of the layer before, after its normalisation, and its sums as :func:`last_gradient_sums`.

    Args:
        edges: the rows.
        stored: the numbers of the layer before (None: the first, gathered) and of this layer.
        constants: of both normalisations: scale, shift, direct factor, slope, offset and mean.
        weight_CC: the weights of this layer, in the type of the operands.
        given: the gradient of this layer after its normalisation; for the last layer of edges, that of the mean.
        activation: after the normalisation of the layer before.
        last: whether this is the last layer of edges.
    """
    outputs, inputs = weight_CC.shape
    width = width_of(inputs)
    tile = tile_of(width, edges.like.dtype, backward=True)
    out_EC = edges.like.new_empty(edges.rows, inputs)
    sums_T2C = constants[0].new_empty(tiles_of(edges.rows, tile), 2, inputs)
    launch: Any = _layer_before[(len(sums_T2C),)]
    launch(
        edges=edges.rows,
        particles=len(given) if last else 0,
        after=stored[1],
        constant=constants[0],
        constant_after=constants[1],
        matrix=weight_CC,
        given=given,
        out=out_EC,
        sums_out=sums_T2C,
        OUTPUTS=outputs,
        LAST=last,
        EDGES=tile,
        WIDTH=width,
        BLOCK=min(_BLOCK, width_of(outputs)),
        ACTIVATION=activation,
        TYPE=TYPES[out_EC.dtype],
        PRODUCT=product_of(out_EC.dtype),
        num_warps=warps_of(width),
        num_stages=2,
        **edges.arguments(stored[0], inputs),
    )
    return out_EC, added(sums_T2C)


def weight_gradient(
    edges: Rows,
    stored: tuple[Float[Tensor, "E C_in"] | None, Float[Tensor, "E C_out"]],
    constants: tuple[Float[Tensor, "6 C_in"], Float[Tensor, "6 C_out"]],
    given: Tensor,
    activation: Activation,
    *,
    last: bool,
) -> Float[Tensor, "C_out C_in"]:
    """Return the gradient of the weights of a layer; the arguments are those of :func:`layer_before`."""
    inputs, outputs, dtype = constants[0].shape[1], constants[1].shape[1], edges.like.dtype
    half = dtype.itemsize == 2
    most, step = (_SQUARE, _EDGES_OF_WEIGHTS) if half else (_FLOAT32_SQUARE, _FLOAT32_EDGES_OF_WEIGHTS)
    rows, columns = (min(most, width_of(channels)) for channels in (outputs, inputs))
    splits = min(_SPLITS, tiles_of(edges.rows, step))
    out_SCC = constants[0].new_empty(splits, outputs, inputs)
    launch: Any = _weight_gradient[(splits, tiles_of(outputs, rows), tiles_of(inputs, columns))]
    launch(
        edges=edges.rows,
        particles=len(given) if last else 0,
        after=stored[1],
        constant=constants[0],
        constant_after=constants[1],
        given=given,
        out=out_SCC,
        splits=splits,
        OUTPUTS=outputs,
        LAST=last,
        EDGES=step,
        ROWS=rows,
        COLUMNS=columns,
        ACTIVATION=activation,
        TYPE=TYPES[dtype],
        PRODUCT=product_of(dtype),
        num_warps=warps_of(max(rows, columns)) if half else _FLOAT32_WARPS,
        num_stages=2,
        **edges.arguments(stored[0], inputs),
    )
    return out_SCC.sum(dim=0)


def first_layer_gradients(
    edges: Edges,
    constant_6C: Float[Tensor, "6 C"],
    given: Tensor,
    out: tuple[Float[Tensor, "V C"], Float[Tensor, "V C"]],
    *,
    last: bool,
) -> None:
    """Compute the gradients of the own parts and of the neighbours' parts of the V real particles.

    Args:
        edges: the first layer.
        constant_6C: of its normalisation, as in :func:`layer_before`.
        given: the gradient of the first layer after its normalisation; if it is the last too, that of the mean.
        out: both gradients are written here, into columns of one tensor.
        last: whether the first layer is the last too.
    """
    own_VC, other_VC = out
    particles, k = len(own_VC), edges.neighbour_Uk.shape[1]
    list_E = torch.arange(particles * k, device=given.device)
    bound_B = torch.arange(0, particles * k + 1, k, device=given.device)
    _add_edges(edges, constant_6C, given, list_E, bound_B, own_VC, last=last)
    # Sorted by digits, numbers of 32 bits take half of the passes.
    neighbour_E, list_E = edges.neighbour_Uk.flatten().int().sort(stable=True)
    every_B = torch.arange(particles + 1, dtype=torch.int32, device=given.device)
    bound_B = torch.searchsorted(neighbour_E, every_B)
    _add_edges(edges, constant_6C, given, list_E, bound_B, other_VC, last=last)


def _add_edges(
    edges: Edges, constant_6C: Tensor, given: Tensor, list_E: Tensor, bound_B: Tensor, out_VC: Tensor, *, last: bool
) -> None:
    """Add the gradients of the edges that a list has from each bound to the next."""
    particles, channels = out_VC.shape
    if particles:
        launch: Any = _added_edges[(tiles_of(particles, _ROWS),)]
        launch(
            particles=particles,
            constant=constant_6C,
            given=given,
            listed=list_E,
            bounds=bound_B,
            out=out_VC,
            OUT_PITCH=out_VC.stride(0),
            LAST=last,
            ROWS=_ROWS,
            WIDTH=width_of(channels),
            num_warps=4,
            **edges.arguments(None, channels),
        )


def added(sums_T2C: Float[Tensor, "T 2 C"]) -> Float[Tensor, "2 C"]:
    """Return the sums of all tiles, added in float64."""
    return sums_T2C.sum(dim=0, dtype=torch.float64).to(sums_T2C.dtype)


@triton.jit
def _last_gradient_sums(
    own, other, stored, neighbours, weight, edges, particles, constant, given, sums_out,
    K: tl.constexpr, CHANNELS: tl.constexpr, PITCH: tl.constexpr, GATHERED: tl.constexpr, SUM: tl.constexpr,
    EDGES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0).to(tl.int64)
    edge = tile * EDGES + tl.arange(0, EDGES)
    channel = tl.arange(0, WIDTH)
    real = edge < edges
    found = number(own, other, stored, neighbours, edge, channel, real, K, CHANNELS, PITCH, GATHERED, SUM)
    after = gradient(found, constant, given, edge, channel, real, particles, K, CHANNELS, True, SUM)
    store_gradient_sums(found, after, constant, channel, tile, sums_out, CHANNELS)


@triton.jit
def _layer_before(
    own, other, stored, neighbours, weight, edges, particles, after, constant, constant_after, matrix, given, out,
    sums_out, K: tl.constexpr, CHANNELS: tl.constexpr, PITCH: tl.constexpr, GATHERED: tl.constexpr, SUM: tl.constexpr,
    OUTPUTS: tl.constexpr, LAST: tl.constexpr, EDGES: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    ACTIVATION: tl.constexpr, TYPE: tl.constexpr, PRODUCT: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0).to(tl.int64)
    edge = tile * EDGES + tl.arange(0, EDGES)
    real = edge < edges
    every = tl.arange(0, WIDTH)
    total = tl.zeros([EDGES, WIDTH], SUM)
    for begin in range(0, OUTPUTS, BLOCK):
        some = begin + tl.arange(0, BLOCK)
        found = number(own, other, after, neighbours, edge, some, real, K, OUTPUTS, OUTPUTS, False, SUM)
        given_here = gradient(found, constant_after, given, edge, some, real, particles, K, OUTPUTS, LAST, SUM)
        here = through_normalisation(found, given_here, constant_after, weight, edge, some, real, K, OUTPUTS)
        read = (some < OUTPUTS)[:, None] & (every < CHANNELS)[None, :]
        back = tl.load(matrix + some[:, None] * CHANNELS + every[None, :], mask=read, other=0.0)
        total = tl.dot(here.to(TYPE), back, total, input_precision=PRODUCT, out_dtype=SUM)
    before = number(own, other, stored, neighbours, edge, every, real, K, CHANNELS, PITCH, GATHERED, SUM)
    total = through_activation(total, normalised(before, constant, every, CHANNELS), ACTIVATION)
    rounded = tl.where(real[:, None], total, 0.0).to(TYPE)
    written = real[:, None] & (every < CHANNELS)[None, :]
    tl.store(out + edge[:, None] * CHANNELS + every[None, :], rounded, mask=written)
    store_gradient_sums(before, rounded.to(SUM), constant, every, tile, sums_out, CHANNELS)


@triton.jit
def _weight_gradient(
    own, other, stored, neighbours, weight, edges, particles, after, constant, constant_after, given, out, splits,
    K: tl.constexpr, CHANNELS: tl.constexpr, PITCH: tl.constexpr, GATHERED: tl.constexpr, SUM: tl.constexpr,
    OUTPUTS: tl.constexpr, LAST: tl.constexpr, EDGES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    ACTIVATION: tl.constexpr, TYPE: tl.constexpr, PRODUCT: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([ROWS, COLUMNS], SUM)
    for first in range(tl.program_id(0) * EDGES, edges, splits * EDGES):
        edge = first + tl.arange(0, EDGES).to(tl.int64)
        real = edge < edges
        found = number(own, other, after, neighbours, edge, row, real, K, OUTPUTS, OUTPUTS, False, SUM)
        given_here = gradient(found, constant_after, given, edge, row, real, particles, K, OUTPUTS, LAST, SUM)
        here = through_normalisation(found, given_here, constant_after, weight, edge, row, real, K, OUTPUTS)
        before = number(own, other, stored, neighbours, edge, column, real, K, CHANNELS, PITCH, GATHERED, SUM)
        before = activated(normalised(before, constant, column, CHANNELS), ACTIVATION)
        before = tl.where(real[:, None], before, 0.0)
        total = tl.dot(tl.trans(here.to(TYPE)), before.to(TYPE), total, input_precision=PRODUCT, out_dtype=SUM)
    written = (row < OUTPUTS)[:, None] & (column < CHANNELS)[None, :]
    place = (tl.program_id(0) * OUTPUTS + row)[:, None] * CHANNELS + column[None, :]
    tl.store(out + place, total, mask=written)


@triton.jit
def _added_edges(
    own, other, stored, neighbours, weight, particles, constant, given, listed, bounds, out,
    K: tl.constexpr, CHANNELS: tl.constexpr, PITCH: tl.constexpr, GATHERED: tl.constexpr, SUM: tl.constexpr,
    OUT_PITCH: tl.constexpr, LAST: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    particle = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, WIDTH)
    inside = particle < particles
    first = tl.load(bounds + particle, mask=inside, other=0)
    count = tl.load(bounds + particle + 1, mask=inside, other=0) - first
    after = tl.zeros([ROWS, WIDTH], SUM)
    before = tl.zeros([ROWS, WIDTH], SUM)
    total = tl.zeros([ROWS], SUM)
    for position in range(tl.max(count, axis=0)):
        real = position < count
        edge = tl.load(listed + first + position, mask=real, other=0)
        found = number(own, other, stored, neighbours, edge, channel, real, K, CHANNELS, PITCH, GATHERED, SUM)
        after += gradient(found, constant, given, edge, channel, real, particles, K, CHANNELS, LAST, SUM)
        times = counted(weight, edge, real, K)
        before += times[:, None] * found
        total += times
    added = summed_through_normalisation(before, after, total, constant, channel, CHANNELS)
    written = inside[:, None] & (channel < CHANNELS)[None, :]
    tl.store(out + particle[:, None] * OUT_PITCH + channel[None, :], added.to(out.dtype.element_ty), mask=written)
