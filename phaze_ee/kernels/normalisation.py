"""What a normalisation does between two kernels of rows: it joins statistics of tiles, and turns them into constants.

Each step is one launch. In torch it is ten or more, and sums in float64 would be copies of what the tiles stored.
Numbers are computed in float64, and stored in the type of sums.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from phaze_ee.kernels.rounding import FUSED
from phaze_ee.kernels.sizes import power_of_two, tiles_of
from phaze_ee.shapes import Float, Int

_ROWS, _COLUMNS = 32, 32  # tiles and channels that a program reads at once
_SPLITS = 64  # programs that share the tiles of a channel
_ANY_SIZE = ["tiles", "splits"]  # no kernel is compiled again for a special number of them


class TileStatistics(NamedTuple):
    """Weighted sums over the rows of T tiles."""

    mean_TC: Float[Tensor, "T C"]
    square_TC: Float[Tensor, "T C"]  # sum of the squares of the differences to the mean of the tile
    total_T: Float[Tensor, " T"]

    def joined(self) -> tuple[Float[Tensor, " C"], Float[Tensor, " C"], Float[Tensor, ""]]:
        """Return mean, biased variance and sum of weights of all rows; zeros without rows."""
        tiles, channels = self.mean_TC.shape
        mean_C, variance_C = self.mean_TC.new_empty(2, channels)
        total = self.mean_TC.new_empty(())
        if not tiles:
            return mean_C.zero_(), variance_C.zero_(), total.zero_()
        splits, columns = min(_SPLITS, tiles_of(tiles, _ROWS)), min(_COLUMNS, power_of_two(channels))
        part_S3C = self.mean_TC.new_empty(splits, 3, channels, dtype=torch.float64)
        blocks = tiles_of(channels, columns)
        launch: Any = _partial_statistics[(splits, blocks)]
        launch(
            self.mean_TC, self.square_TC, self.total_T, part_S3C, tiles, channels,
            ROWS=_ROWS, COLUMNS=columns, **FUSED,
        )  # fmt: skip
        launch = _joined_statistics[(blocks,)]
        launch(
            self.mean_TC, part_S3C, mean_C, variance_C, total, splits, channels,
            SPLITS=_SPLITS, COLUMNS=columns, **FUSED,
        )  # fmt: skip
        return mean_C, variance_C, total


def constants(
    scale_C: Float[Tensor, " C"],
    shift_C: Float[Tensor, " C"],
    mean_C: Float[Tensor, " C"],
    variance_C: Float[Tensor, " C"],
    epsilon: float,
) -> Float[Tensor, "6 C"]:
    """Return what the forward kernels apply: scale · rsqrt(σ² + ε), the shift that belongs to it, and in row 5 μ.

    Rows 2 to 4 are zero (:func:`gradient_constants`).
    """
    out_6C = mean_C.new_empty(6, len(mean_C))
    launch: Any = _constants[(1,)]
    launch(scale_C, shift_C, mean_C, variance_C, out_6C, len(mean_C), **_per_channel(mean_C, epsilon))
    return out_6C


def gradient_constants(
    constant_6C: Float[Tensor, "6 C"],
    scale_C: Float[Tensor, " C"],
    variance_C: Float[Tensor, " C"],
    total: Float[Tensor, ""],
    sums_2C: Float[Tensor, "2 C"],
    all_sums_2C: Float[Tensor, "2 C"],
    epsilon: float,
) -> tuple[Float[Tensor, "6 C"], Float[Tensor, " C"]]:
    """Return the constants with the factors of the gradient in rows 2 to 4, and the gradient of the scale.

    The gradient of a row z is direct · gradient of y + weight of the row · (slope · z + offset).

    Args:
        constant_6C: of :func:`constants`.
        scale_C: of the normalisation.
        variance_C: biased, of all processes.
        total: the sum of the weights of all rows of all processes.
        sums_2C: the sums over rows of the gradient of y, and of it times z − μ.
        all_sums_2C: the same of all processes.
        epsilon: of the normalisation.
    """
    out_6C, d_scale_C = torch.empty_like(constant_6C), torch.empty_like(variance_C)
    launch: Any = _gradient_constants[(1,)]
    launch(
        constant_6C, scale_C, variance_C, total, sums_2C, all_sums_2C, out_6C, d_scale_C, len(variance_C),
        **_per_channel(variance_C, epsilon),
    )  # fmt: skip
    return out_6C, d_scale_C


def update_running(
    mean_C: Float[Tensor, " C"],
    variance_C: Float[Tensor, " C"],
    total: Float[Tensor, ""],
    running_mean_C: Float[Tensor, " C"],
    running_variance_C: Float[Tensor, " C"],
    batches: Int[Tensor, ""],
    momentum: float | None,
) -> None:
    """Update running statistics as ``nn.BatchNorm`` does; one row alone has no variance and changes nothing.

    Torch does not notice the change: it is the number of batches that tells whether they have changed.

    Args:
        mean_C: of the batch.
        variance_C: biased, of the batch.
        total: the sum of weights.
        running_mean_C: changed.
        running_variance_C: changed.
        batches: how many there were, this one included.
        momentum: None: all batches count alike.
    """
    launch: Any = _running[(1,)]
    launch(
        mean_C, variance_C, total, running_mean_C, running_variance_C, batches, len(mean_C),
        SHARE=0.0 if momentum is None else momentum, CUMULATIVE=momentum is None,
        WIDTH=power_of_two(len(mean_C)), **FUSED,
    )  # fmt: skip


def _per_channel(value_C: Tensor, epsilon: float) -> dict[str, Any]:
    return {"EPSILON": epsilon, "WIDTH": power_of_two(len(value_C)), **FUSED}


@triton.jit(do_not_specialize=_ANY_SIZE)
def _partial_statistics(
    mean, square, total, out, tiles, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """Add up weights, differences to the mean of the first tile, and squares of differences to it."""
    split = tl.program_id(0)
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = channel < channels
    reference = tl.load(mean + channel, mask=inside, other=0.0).to(tl.float64)
    weight = tl.zeros([ROWS], tl.float64)
    first = tl.zeros([ROWS, COLUMNS], tl.float64)
    second = tl.zeros([ROWS, COLUMNS], tl.float64)
    for begin in range(split * ROWS, tiles, tl.num_programs(0) * ROWS):
        row = (begin + tl.arange(0, ROWS)).to(tl.int64)
        real = row < tiles
        read = real[:, None] & inside[None, :]
        place = row[:, None] * channels + channel[None, :]
        times = tl.load(total + row, mask=real, other=0.0).to(tl.float64)
        difference = tl.load(mean + place, mask=read, other=0.0).to(tl.float64) - reference[None, :]
        weight += times
        first += times[:, None] * difference
        second += tl.load(square + place, mask=read, other=0.0).to(tl.float64)
        second += times[:, None] * difference * difference
    stored = 3 * split * channels + channel
    tl.store(out + stored, tl.sum(weight, axis=0) + tl.zeros([COLUMNS], tl.float64), mask=inside)
    tl.store(out + stored + channels, tl.sum(first, axis=0), mask=inside)
    tl.store(out + stored + 2 * channels, tl.sum(second, axis=0), mask=inside)


@triton.jit(do_not_specialize=_ANY_SIZE)
def _joined_statistics(
    mean, part, mean_out, variance_out, total_out, splits, channels, SPLITS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    channel = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    split = tl.arange(0, SPLITS)
    inside = channel < channels
    read = (split < splits)[:, None] & inside[None, :]
    place = 3 * split[:, None] * channels + channel[None, :]
    weight = tl.sum(tl.load(part + place, mask=read, other=0.0), axis=0)
    first = tl.sum(tl.load(part + place + channels, mask=read, other=0.0), axis=0)
    second = tl.sum(tl.load(part + place + 2 * channels, mask=read, other=0.0), axis=0)
    counted = tl.where(weight > 0, weight, 1.0)
    shift = first / counted
    reference = tl.load(mean + channel, mask=inside, other=0.0).to(tl.float64)
    variance = (second - first * shift) / counted
    variance = tl.where(variance < 0, 0.0, variance)  # a NaN stays
    tl.store(mean_out + channel, reference + shift, mask=inside)
    tl.store(variance_out + channel, variance, mask=inside)
    if tl.program_id(0) == 0:
        tl.store(total_out, tl.max(weight, axis=0))


@triton.jit
def _rows(total, WIDTH: tl.constexpr):
    """Return the sum of weights for each channel: a comparison of two numbers is no mask in the interpreter."""
    return tl.load(total).to(tl.float64) + tl.zeros([WIDTH], tl.float64)


@triton.jit
def _deviation(variance, channel, inside, EPSILON: tl.constexpr, WIDTH: tl.constexpr):
    """Return √(σ² + ε). A bare ε would be in float32."""
    own = tl.load(variance + channel, mask=inside, other=0.0).to(tl.float64)
    return tl.sqrt(own + tl.full([WIDTH], EPSILON, tl.float64))


@triton.jit
def _constants(scale, shift, mean, variance, out, channels, EPSILON: tl.constexpr, WIDTH: tl.constexpr):
    channel = tl.arange(0, WIDTH)
    inside = channel < channels
    own_mean = tl.load(mean + channel, mask=inside, other=0.0).to(tl.float64)
    own_shift = tl.load(shift + channel, mask=inside, other=0.0).to(tl.float64)
    own_scale = tl.load(scale + channel, mask=inside, other=0.0).to(tl.float64)
    direct = own_scale / _deviation(variance, channel, inside, EPSILON, WIDTH)
    zero = tl.zeros([WIDTH], tl.float64)
    tl.store(out + channel, direct, mask=inside)
    tl.store(out + channels + channel, own_shift - own_mean * direct, mask=inside)
    tl.store(out + 2 * channels + channel, zero, mask=inside)
    tl.store(out + 3 * channels + channel, zero, mask=inside)
    tl.store(out + 4 * channels + channel, zero, mask=inside)
    tl.store(out + 5 * channels + channel, own_mean, mask=inside)


@triton.jit
def _gradient_constants(
    constant, scale, variance, total, own, every, out, d_scale, channels, EPSILON: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    channel = tl.arange(0, WIDTH)
    inside = channel < channels
    deviation = _deviation(variance, channel, inside, EPSILON, WIDTH)
    rows = _rows(total, WIDTH)
    rows = tl.where(rows > 0, rows, 1.0)
    mean = tl.load(constant + 5 * channels + channel, mask=inside, other=0.0).to(tl.float64)
    direct = tl.load(scale + channel, mask=inside, other=0.0).to(tl.float64) / deviation
    of_shift = tl.load(every + channel, mask=inside, other=0.0).to(tl.float64)
    of_scale = tl.load(every + channels + channel, mask=inside, other=0.0).to(tl.float64) / deviation
    slope = -direct * of_scale / (rows * deviation)
    for row in tl.static_range(2):
        kept = tl.load(constant + row * channels + channel, mask=inside, other=0.0)
        tl.store(out + row * channels + channel, kept, mask=inside)
    tl.store(out + 2 * channels + channel, direct, mask=inside)
    tl.store(out + 3 * channels + channel, slope, mask=inside)
    tl.store(out + 4 * channels + channel, -direct * of_shift / rows - slope * mean, mask=inside)
    tl.store(out + 5 * channels + channel, mean, mask=inside)
    own_scale = tl.load(own + channels + channel, mask=inside, other=0.0).to(tl.float64) / deviation
    tl.store(d_scale + channel, own_scale, mask=inside)


@triton.jit
def _running(
    mean, variance, total, running_mean, running_variance, batches, channels,
    SHARE: tl.constexpr, CUMULATIVE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    channel = tl.arange(0, WIDTH)
    inside = channel < channels
    rows = _rows(total, WIDTH)
    several = inside & (rows > 1)
    share = tl.full([WIDTH], SHARE, tl.float64)
    if CUMULATIVE:
        share = 1.0 / (tl.load(batches).to(tl.float64) + tl.zeros([WIDTH], tl.float64))
    degrees = tl.where(rows > 1, rows - 1, 1.0)
    unbiased = tl.load(variance + channel, mask=inside, other=0.0).to(tl.float64) * rows / degrees
    before = tl.load(running_mean + channel, mask=inside, other=0.0).to(tl.float64)
    after = tl.load(mean + channel, mask=inside, other=0.0).to(tl.float64)
    tl.store(running_mean + channel, before + share * (after - before), mask=several)
    before = tl.load(running_variance + channel, mask=inside, other=0.0).to(tl.float64)
    tl.store(running_variance + channel, before + share * (unbiased - before), mask=several)
