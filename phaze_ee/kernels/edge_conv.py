"""The edges of an EdgeConv block as one kernel, for inference: no number of an edge is written to memory.

A program takes a few particles with all their edges. It gathers the two parts of the first edge layer, applies the
other layers with a ReLU before each, adds up the edges of each particle and adds the shortcut.

A product of an edge layer takes a block of its inputs or of its outputs at a time, so that no weight has to fit into
shared memory as a whole. Layers come in pairs: a block of outputs of one is a block of inputs of the next. The first
product takes its inputs from memory, the last one of an even number writes its outputs there.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from phaze_ee.kernels.activations import activated
from phaze_ee.kernels.rounding import FUSED
from phaze_ee.kernels.sizes import power_of_two, tiles_of
from phaze_ee.shapes import Float, Int

MOST_NEIGHBOURS = 64
MOST_CHANNELS = 256
# Bytes of the operands of all edges of a program. The shared memory holds the weights too, and some cards have 99 kB.
_OPERANDS = 64 * 1024
_FEWEST_EDGES = 16  # what a product of the tensor cores needs
_BLOCK = 32  # channels of a layer that are multiplied at once
# Layers after the first one up to which whole blocks of weights fit, the next one fetched meanwhile. Published networks
# have two. With more, the compiler keeps more in shared memory.
_FEW_LAYERS = 2
_TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


class EdgeLayers(NamedTuple):
    """Layers of rows, filled up with zeros to the same power of two of channels.

    Of an EdgeConv block, they are the edge layers after the first one.
    """

    weight_LCC: Float[Tensor, "L C C"]  # inputs, then outputs; in the type of the operands
    bias_LC: Float[Tensor, "L C"]  # in the type of sums
    channels: int  # of the first layer
    outputs: int  # of the last layer


def fits(layers: Sequence[Float[Tensor, "C_in C_out"]], k: int) -> bool:
    """Return whether :func:`edge_conv` takes these weights: one layer at least, k ≤ 64, and at most 256 channels.

    They must be in float32.
    """
    return (
        len(layers) > 0
        and k <= MOST_NEIGHBOURS
        and all(max(weight.shape) <= MOST_CHANNELS and weight.dtype == torch.float32 for weight in layers)
    )


def stack_layers(
    layers: Sequence[tuple[Float[Tensor, "C_in C_out"], Float[Tensor, " C_out"]]], dtype: torch.dtype = torch.float32
) -> EdgeLayers:
    """Return the weights and biases of layers as the kernel takes them.

    Args:
        layers: weight and bias of each layer, in the type of sums: float32 for edges (:func:`fits`).
        dtype: of the operands of products: that of sums, float16 or bfloat16.
    """
    first = layers[0][0]
    width = max(16, *(power_of_two(max(weight.shape)) for weight, _ in layers))
    weight_LCC = first.new_zeros(len(layers), width, width, dtype=dtype)
    bias_LC = first.new_zeros(len(layers), width)
    for index, (weight, bias) in enumerate(layers):
        weight_LCC[index, : weight.shape[0], : weight.shape[1]] = weight
        bias_LC[index, : len(bias)] = bias
    return EdgeLayers(weight_LCC, bias_LC, first.shape[0], layers[-1][0].shape[1])


def edge_conv(
    layers: EdgeLayers,
    part_SC: Float[Tensor, "V+1 C_all"],
    shortcut_SC: Float[Tensor, "S C_any"],
    shortcut_column: int,
    neighbour_Vk: Int[Tensor, "V k"],
    *,
    tf32: bool = False,
) -> Float[Tensor, "V C_out"]:
    """Return ReLU(shortcut + Σ ReLU(edge)) of all particles, with the sum over their k edges. NaN stays NaN.

    Args:
        layers: the edge layers after the first one.
        part_SC: the outputs of the first layer, in float32 or the type of the operands: the particle's own part of an
            edge, then its part as a neighbour; row V is zero.
        shortcut_SC: the shortcut, in one of these types.
        shortcut_column: the first column of the shortcut.
        neighbour_Vk: the neighbours of each particle; V is padding.
        tf32: whether products in float32 may round their operands to TF32.
    """
    particles, k = neighbour_Vk.shape
    out_VC = layers.bias_LC.new_empty(particles, layers.outputs)
    count, width, _ = layers.weight_LCC.shape
    slots = power_of_two(k)
    together = _particles_together(width, slots, layers.weight_LCC.element_size())
    if not particles:
        return out_VC
    few = count <= _FEW_LAYERS
    launch: Any = _edge_conv[(tiles_of(particles, together),)]
    launch(
        part_SC,
        shortcut_SC,
        neighbour_Vk.contiguous(),
        layers.weight_LCC,
        layers.bias_LC,
        out_VC,
        particles,
        part_SC.stride(0),
        shortcut_SC.stride(0),
        shortcut_column,
        CHANNELS=layers.channels,
        OUTPUTS=layers.outputs,
        LAYERS=count,
        NEIGHBOURS=k,
        SLOTS=slots,
        TOGETHER=together,
        WIDTH=width,
        BLOCK=min(_BLOCK if few else _BLOCK // 2, width),
        TYPE=_TYPES[layers.weight_LCC.dtype],
        PRODUCT="tf32" if tf32 else "ieee",
        num_warps=4 if width <= 64 else 8,
        **FUSED,
        num_stages=2 if few else 1,
    )
    return out_VC


def _particles_together(width: int, slots: int, number_bytes: int) -> int:
    edges = max(_FEWEST_EDGES, min(128, _OPERANDS // (width * number_bytes)))
    return max(1, edges // slots)


@triton.jit
def _store(
    edge, real, shortcut, out, particle, particles, stride, column, channel,
    OUTPUTS: tl.constexpr, TOGETHER: tl.constexpr, SLOTS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    edge = tl.where(real[:, None], activated(edge, "relu"), 0.0)
    total = tl.sum(tl.reshape(edge, [TOGETHER, SLOTS, COLUMNS]), axis=1)
    stored = (particle < particles)[:, None] & (channel < OUTPUTS)[None, :]
    own = tl.load(shortcut + particle[:, None] * stride + column + channel[None, :], mask=stored, other=0.0)
    total += own.to(tl.float32)
    tl.store(out + particle[:, None] * OUTPUTS + channel[None, :], activated(total, "relu"), mask=stored)


@triton.jit
def _after_first(
    part, weight, own, other, real, stride,
    CHANNELS: tl.constexpr, EDGES: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    TYPE: tl.constexpr, PRODUCT: tl.constexpr,
):  # fmt: skip
    """Gather both parts of the first layer, and multiply them by the weights of the second, without its bias."""
    every = tl.arange(0, WIDTH)
    total = tl.zeros([EDGES, WIDTH], tl.float32)
    for begin in range(0, WIDTH, BLOCK):
        some = begin + tl.arange(0, BLOCK)
        read = real[:, None] & (some < CHANNELS)[None, :]
        pair = tl.load(part + own[:, None] * stride + some[None, :], mask=read, other=0.0).to(tl.float32)
        pair += tl.load(part + other[:, None] * stride + CHANNELS + some[None, :], mask=read, other=0.0).to(tl.float32)
        into = tl.load(weight + some[:, None] * WIDTH + every[None, :])
        total = tl.dot(activated(pair, "relu").to(TYPE), into, total, input_precision=PRODUCT)
    return total


@triton.jit
def block_of(
    before, weight, bias, some, INPUTS: tl.constexpr, WIDTH: tl.constexpr, SUM: tl.constexpr, PRODUCT: tl.constexpr
):  # fmt: skip
    """Return some outputs of a layer, with their bias."""
    every = tl.arange(0, INPUTS)
    out_of = tl.load(weight + every[:, None] * WIDTH + some[None, :])
    return tl.dot(before, out_of, input_precision=PRODUCT, out_dtype=SUM) + tl.load(bias + some)[None, :]


@triton.jit
def after_pair(
    before, weight, bias,
    ROWS: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    ACTIVATION: tl.constexpr, TYPE: tl.constexpr, SUM: tl.constexpr, PRODUCT: tl.constexpr,
):  # fmt: skip
    """Apply two layers, a block of the channels between them at a time."""
    every = tl.arange(0, OUTPUTS)
    total = tl.zeros([ROWS, OUTPUTS], SUM)
    second = weight + WIDTH * WIDTH
    for begin in range(0, WIDTH, BLOCK):
        some = begin + tl.arange(0, BLOCK)
        middle = block_of(before, weight, bias, some, INPUTS, WIDTH, SUM, PRODUCT)
        into = tl.load(second + some[:, None] * WIDTH + every[None, :])
        middle = activated(middle, ACTIVATION).to(TYPE)
        total = tl.dot(middle, into, total, input_precision=PRODUCT, out_dtype=SUM)
    return total + tl.load(bias + WIDTH + every)[None, :]


@triton.jit
def _edge_conv(
    part, shortcut, neighbours, weight, bias, out, particles, part_stride, shortcut_stride, shortcut_column,
    CHANNELS: tl.constexpr, OUTPUTS: tl.constexpr, LAYERS: tl.constexpr, NEIGHBOURS: tl.constexpr,
    SLOTS: tl.constexpr, TOGETHER: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    TYPE: tl.constexpr, PRODUCT: tl.constexpr,
):  # fmt: skip
    EDGES: tl.constexpr = TOGETHER * SLOTS
    edge = tl.arange(0, EDGES)
    first = tl.program_id(0) * TOGETHER
    own = (first + edge // SLOTS).to(tl.int64)
    slot = edge % SLOTS
    particle = (first + tl.arange(0, TOGETHER)).to(tl.int64)
    real = (own < particles) & (slot < NEIGHBOURS)
    other = tl.load(neighbours + own * NEIGHBOURS + slot, mask=real, other=0)
    every = tl.arange(0, WIDTH)
    total = _after_first(part, weight, own, other, real, part_stride, CHANNELS, EDGES, WIDTH, BLOCK, TYPE, PRODUCT)
    total += tl.load(bias + every)[None, :]
    for double in tl.static_range((LAYERS - 1) // 2):
        layer = 2 * double + 1
        total = after_pair(
            activated(total, "relu").to(TYPE), weight + layer * WIDTH * WIDTH, bias + layer * WIDTH,
            EDGES, WIDTH, WIDTH, WIDTH, BLOCK, "relu", TYPE, tl.float32, PRODUCT,
        )  # fmt: skip
    if LAYERS % 2 == 1:
        _store(
            total, real, shortcut, out, particle, particles, shortcut_stride, shortcut_column, every,
            OUTPUTS, TOGETHER, SLOTS, WIDTH,
        )  # fmt: skip
    else:
        before = activated(total, "relu").to(TYPE)
        for begin in range(0, WIDTH, BLOCK):
            some = begin + tl.arange(0, BLOCK)
            last = block_of(
                before, weight + (LAYERS - 1) * WIDTH * WIDTH, bias + (LAYERS - 1) * WIDTH, some,
                WIDTH, WIDTH, tl.float32, PRODUCT,
            )  # fmt: skip
            _store(
                last, real, shortcut, out, particle, particles, shortcut_stride, shortcut_column, some,
                OUTPUTS, TOGETHER, SLOTS, BLOCK,
            )  # fmt: skip
