"""The edges of an EdgeConv block in training, forward: normalise, activation, product and statistics in one kernel.

The statistics of a layer are those of all edges, so a layer ends where its normalisation begins. Its kernel reads the
numbers of the layer before once and writes its own once. It adds up the statistics of each tile of edges, which
``normalisation.py`` joins. The first layer is gathered wherever it is needed and never stored.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from phaze_ee.kernels.activations import Activation, activated
from phaze_ee.kernels.edge_numbers import normalised, number, store_statistics
from phaze_ee.kernels.normalisation import TileStatistics
from phaze_ee.kernels.rounding import FUSED
from phaze_ee.kernels.sizes import power_of_two, tiles_of
from phaze_ee.shapes import Float, Int

MOST_CHANNELS = 256
TYPES = {torch.float64: tl.float64, torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
_BLOCK = 32  # channels of a layer that are multiplied at once


class Edges(NamedTuple):
    """The first layer of the edges of U particles: V real ones, then a padded slot of each jet.

    Both parts are columns of one tensor.
    """

    own_UC: Float[Tensor, "U C"]  # zero for padded slots
    other_UC: Float[Tensor, "U C"]  # row V is padding, and zero
    neighbour_Uk: Int[Tensor, "U k"]
    weight_U: Float[Tensor, " U"]  # how often each counts in statistics; in the type of sums

    @property
    def rows(self) -> int:
        """The number of edges."""
        return self.neighbour_Uk.numel()

    @property
    def like(self) -> Tensor:
        """A tensor on the device and in the type of the numbers that are stored."""
        return self.own_UC

    @property
    def sums(self) -> torch.dtype:
        """The type of sums."""
        return sums_of(self.own_UC.dtype)

    def arguments(self, stored: Tensor | None, channels: int) -> dict[str, Any]:
        """Return what the kernels need to read the numbers of a layer; None: the first layer."""
        return {
            "own": self.own_UC,
            "other": self.other_UC,
            "stored": self.own_UC if stored is None else stored,
            "neighbours": self.neighbour_Uk,
            "weight": self.weight_U,
            "K": self.neighbour_Uk.shape[1],
            "CHANNELS": channels,
            "PITCH": (self.own_UC if stored is None else stored).stride(0),
            "GATHERED": stored is None,
            "SUM": TYPES[self.sums],
            **FUSED,
        }


class StoredRows(NamedTuple):
    """Rows whose layers are all stored, and that count once each."""

    rows: int
    like: Tensor  # on the device and in the type of the numbers that kernels store

    @property
    def sums(self) -> torch.dtype:
        """The type of sums."""
        return sums_of(self.like.dtype)

    def arguments(self, stored: Tensor | None, channels: int) -> dict[str, Any]:
        """Return what the kernels need to read the numbers of a layer."""
        assert stored is not None
        unused = dict.fromkeys(("own", "other", "neighbours", "weight"), stored)
        known = {"stored": stored, "K": 0, "CHANNELS": channels, "PITCH": stored.stride(0), "GATHERED": False}
        return {**unused, **known, "SUM": TYPES[self.sums], **FUSED}


Rows = Edges | StoredRows


def sums_of(dtype: torch.dtype) -> torch.dtype:
    """Return the type of sums: float64 for numbers in float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def width_of(channels: int) -> int:
    """Return the columns of a tile that holds all channels."""
    return max(16, power_of_two(channels))


def tile_of(width: int, dtype: torch.dtype, *, backward: bool = False) -> int:
    """Return the edges of a tile, such that its numbers stay in registers: it has fewer in float32 and backward.

    The compiler reports what does not (checked for compute capability 8.0 and 9.0).
    """
    if backward or dtype not in (torch.float16, torch.bfloat16):
        return 32 if width > 128 and dtype not in (torch.float16, torch.bfloat16) else 64
    return 128 if width <= 128 else 64


def warps_of(width: int) -> int:
    """Return the warps of a program."""
    return 4 if width <= 64 else 8


def product_of(dtype: torch.dtype) -> str:
    """Return the precision of a product, as torch has it."""
    return "tf32" if dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32 else "ieee"


def first_statistics(edges: Rows, stored: Float[Tensor, "E C"] | None, channels: int, zeros: int = 0) -> TileStatistics:
    """Return the statistics of the first layer.

    Args:
        edges: the rows.
        stored: the numbers of the layer; None: they are gathered.
        channels: of the layer.
        zeros: how many more rows there are, which are zero. They are a tile of their own.
    """
    width = width_of(channels)
    tile = tile_of(width, edges.like.dtype)
    statistics = _empty_statistics(edges, tiles_of(edges.rows, tile) + int(zeros > 0), channels)
    launch: Any = _first_statistics[(len(statistics.total_T),)]
    launch(
        edges=edges.rows,
        mean_out=statistics.mean_TC,
        square_out=statistics.square_TC,
        total_out=statistics.total_T,
        EDGES=tile,
        WIDTH=width,
        num_warps=warps_of(width),
        **edges.arguments(stored, channels),
    )
    if zeros:
        statistics.total_T[-1:].fill_(zeros)
    return statistics


def next_layer(
    edges: Rows,
    stored: Float[Tensor, "E C_in"] | None,
    constant_6C: Float[Tensor, "6 C_in"],
    weight_CC: Float[Tensor, "C_out C_in"],
    activation: Activation,
) -> tuple[Float[Tensor, "E C_out"], TileStatistics]:
    """Return the numbers of a layer and their statistics.

    Args:
        edges: the rows.
        stored: the numbers of the layer before; None: it is the first, and gathered.
        constant_6C: scale and shift of its normalisation, in the first two rows.
        weight_CC: the weights of the layer, in the type of the operands.
        activation: after the normalisation of the layer before.
    """
    outputs, inputs = weight_CC.shape
    width = width_of(outputs)
    tile = tile_of(width, edges.like.dtype)
    out_EC = edges.like.new_empty(edges.rows, outputs)
    statistics = _empty_statistics(edges, tiles_of(edges.rows, tile), outputs)
    launch: Any = _next_layer[(len(statistics.total_T),)]
    launch(
        edges=edges.rows,
        constant=constant_6C,
        matrix=weight_CC,
        out=out_EC,
        mean_out=statistics.mean_TC,
        square_out=statistics.square_TC,
        total_out=statistics.total_T,
        OUTPUTS=outputs,
        EDGES=tile,
        WIDTH=width,
        BLOCK=min(_BLOCK, width_of(inputs)),
        ACTIVATION=activation,
        TYPE=TYPES[out_EC.dtype],
        PRODUCT=product_of(out_EC.dtype),
        num_warps=warps_of(width),
        num_stages=2,
        **edges.arguments(stored, inputs),
    )
    return out_EC, statistics


def _empty_statistics(edges: Rows, tiles: int, channels: int) -> TileStatistics:
    mean_TC, square_TC = edges.like.new_empty(2, tiles, channels, dtype=edges.sums)
    return TileStatistics(mean_TC, square_TC, edges.like.new_empty(tiles, dtype=edges.sums))


@triton.jit
def _first_statistics(
    own, other, stored, neighbours, weight, edges, mean_out, square_out, total_out,
    K: tl.constexpr, CHANNELS: tl.constexpr, PITCH: tl.constexpr, GATHERED: tl.constexpr, SUM: tl.constexpr,
    EDGES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0).to(tl.int64)
    edge = tile * EDGES + tl.arange(0, EDGES)
    channel = tl.arange(0, WIDTH)
    real = edge < edges
    found = number(own, other, stored, neighbours, edge, channel, real, K, CHANNELS, PITCH, GATHERED, SUM)
    store_statistics(found, weight, edge, channel, real, tile, mean_out, square_out, total_out, K, CHANNELS)


@triton.jit
def _next_layer(
    own, other, stored, neighbours, weight, edges, constant, matrix, out, mean_out, square_out, total_out,
    K: tl.constexpr, CHANNELS: tl.constexpr, PITCH: tl.constexpr, GATHERED: tl.constexpr, SUM: tl.constexpr,
    OUTPUTS: tl.constexpr, EDGES: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    ACTIVATION: tl.constexpr, TYPE: tl.constexpr, PRODUCT: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0).to(tl.int64)
    edge = tile * EDGES + tl.arange(0, EDGES)
    real = edge < edges
    every = tl.arange(0, WIDTH)
    total = tl.zeros([EDGES, WIDTH], SUM)
    for begin in range(0, CHANNELS, BLOCK):
        some = begin + tl.arange(0, BLOCK)
        found = number(own, other, stored, neighbours, edge, some, real, K, CHANNELS, PITCH, GATHERED, SUM)
        before = activated(normalised(found, constant, some, CHANNELS), ACTIVATION).to(TYPE)
        read = (some < CHANNELS)[:, None] & (every < OUTPUTS)[None, :]
        into = tl.load(matrix + every[None, :] * CHANNELS + some[:, None], mask=read, other=0.0)
        total = tl.dot(before, into, total, input_precision=PRODUCT, out_dtype=SUM)
    rounded = total.to(TYPE)
    written = real[:, None] & (every < OUTPUTS)[None, :]
    tl.store(out + edge[:, None] * OUTPUTS + every[None, :], rounded, mask=written)
    store_statistics(rounded.to(SUM), weight, edge, every, real, tile, mean_out, square_out, total_out, K, OUTPUTS)
