"""The backward pass of what a transformer does to each token between two products (``token_rows.py``).

What the forward pass did not store is computed again. Each program goes over many tokens and adds up the gradients of
parameters, and torch adds those of the programs, so that a training is repeated bit for bit.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from phaze_ee.kernels.activations import activated, through_activation
from phaze_ee.kernels.dropout import kept
from phaze_ee.kernels.edge_forward import sums_of, width_of
from phaze_ee.kernels.sizes import tiles_of
from phaze_ee.kernels.token_rows import TokenWork, channels_together, per_channel, shifted, standardised
from phaze_ee.shapes import Float

_NUMBERS, _MOST_ROWS = 2048, 16  # that a program holds at once
_PROGRAMS = 512  # that share the tokens


def token_gradients(
    x_TC: Float[Tensor, "T C"], work: TokenWork, before_TC: Tensor, given: tuple[Tensor | None, Tensor | None]
) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
    """Return the gradients of the tokens and of the residual, and those of parameters by name, one for each channel.

    Args:
        x_TC: tokens.
        work: what was done to them.
        before_TC: the tokens before the next norm; any without one.
        given: the gradients of the tokens before the next norm and after it; None: there is none.
    """
    count, channels = x_TC.shape
    rows = max(1, min(_MOST_ROWS, _NUMBERS // width_of(channels)))
    tiles = tiles_of(count, rows)
    programs = min(_PROGRAMS, tiles)
    x_TC = channels_together(x_TC)
    residual = x_TC if work.residual_TC is None else channels_together(work.residual_TC)
    d_x_TC = x_TC.new_empty(count, channels)
    d_residual_TC = None if work.residual_TC is None else residual.new_empty(count, channels)
    parts = _parts(work)
    part_GPC = x_TC.new_empty(programs, len(parts), channels, dtype=sums_of(x_TC.dtype))
    if count:
        launch: Any = _token_gradients[(programs,)]
        launch(
            given=x_TC, residual=residual, before=before_TC.contiguous(),
            d_out=None if given[0] is None else given[0].contiguous(),
            d_after=None if given[1] is None else given[1].contiguous(),
            d_given=d_x_TC, d_residual=d_residual_TC, part=part_GPC, residual_stride=residual.stride(0), tiles=tiles,
            INNER=work._replace(residual_TC=None).changes, PARTS=len(parts), ROWS=rows, **work.arguments(x_TC),
        )  # fmt: skip
    return d_x_TC, d_residual_TC, dict(zip(parts, part_GPC.sum(dim=0), strict=True))


def _parts(work: TokenWork) -> list[str]:
    """Return the parameters whose gradients are added up, in the order in which the kernel stores them."""
    parts = [] if work.shift_C is None else ["shift"]
    parts += [] if work.scale_H is None else ["scale"]
    parts += [] if work.norm is None else ["norm_weight", "norm_bias"]
    parts += [] if work.gain_C is None else ["gain"]
    parts += [] if work.kept_C is None else ["kept"]
    return parts + ([] if work.next is None else ["next_weight", "next_bias"])


@triton.jit
def _through_norm(given, hat, factor, inside, KIND: tl.constexpr, CHANNELS: tl.constexpr):
    """Return the gradient of numbers before a norm; ``given`` is that of the standardised ones."""
    found = given - hat * (tl.sum(given * hat, axis=1) / CHANNELS)[:, None]
    if KIND == "layer":
        found -= (tl.sum(given, axis=1) / CHANNELS)[:, None]
    return tl.where(inside[None, :], found * factor[:, None], 0.0)


@triton.jit
def _before_next(
    before, d_after, place, real, weight, channel, inside,
    EPSILON: tl.constexpr, KIND: tl.constexpr, CHANNELS: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """Return the gradients of tokens before the next norm, and of its weight and bias."""
    hat = tl.load(before + place, mask=real, other=0.0).to(SUM)
    hat, factor = standardised(hat, inside, EPSILON, KIND, CHANNELS)
    given = tl.load(d_after + place, mask=real, other=0.0).to(SUM)
    found = _through_norm(per_channel(given, weight, channel, inside), hat, factor, inside, KIND, CHANNELS)
    return found, tl.sum(given * hat, axis=0), tl.sum(given, axis=0)


@triton.jit
def _before_gain(
    total, raw, scale, gain, norm_weight, norm_bias, seed, place, channel, inside,
    NORM_EPSILON: tl.constexpr, NORM: tl.constexpr, HEAD: tl.constexpr, ACTIVATION: tl.constexpr,
    FIRST_DROP: tl.constexpr, SECOND_DROP: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Return the gradients of numbers before the scale of heads, and of scale, weight and bias of the norm, and gain.

    Those of parameters that are not there are zero. What the forward pass did is done again first.
    """
    scaled = per_channel(raw, scale, channel // HEAD, inside)
    hat = activated(scaled, ACTIVATION)
    if FIRST_DROP > 0:
        hat *= kept(seed, place, FIRST_DROP)
    if NORM != "none":
        hat, factor = standardised(hat, inside, NORM_EPSILON, NORM, CHANNELS)
    of_gain = tl.zeros_like(tl.sum(total, axis=0))
    of_weight, of_bias, of_scale = of_gain, of_gain, of_gain
    if gain is not None:
        after = hat
        if NORM != "none":
            after = shifted(hat, norm_weight, norm_bias, channel, inside)
        if SECOND_DROP > 0:
            after *= kept(seed + 1, place, SECOND_DROP)
        of_gain = tl.sum(total * after, axis=0)
        total = per_channel(total, gain, channel, inside)
    if SECOND_DROP > 0:
        total *= kept(seed + 1, place, SECOND_DROP)
    if NORM != "none":
        of_weight, of_bias = tl.sum(total * hat, axis=0), tl.sum(total, axis=0)
        total = per_channel(total, norm_weight, channel, inside)
        total = _through_norm(total, hat, factor, inside, NORM, CHANNELS)
    if FIRST_DROP > 0:
        total *= kept(seed, place, FIRST_DROP)
    total = through_activation(total, scaled, ACTIVATION)
    if scale is not None:
        of_scale = tl.sum(total * raw, axis=0)
        total = per_channel(total, scale, channel // HEAD, inside)
    return total, of_scale, of_weight, of_bias, of_gain


@triton.jit
def _stored(part, value, inside, IS_THERE: tl.constexpr, CHANNELS: tl.constexpr):
    """Store the gradient of a parameter that is there; return the place of the next one."""
    if IS_THERE:
        tl.store(part, value, mask=inside)
        part += CHANNELS
    return part


@triton.jit(do_not_specialize=["rows", "seed", "tiles"])
def _token_gradients(
    given, shift, scale, gain, residual, kept_C, before, d_out, d_after, d_given, d_residual, part, rows, stride,
    residual_stride, seed, tiles,
    norm_weight, norm_bias, NORM_EPSILON: tl.constexpr, NORM: tl.constexpr,
    next_weight, next_bias, NEXT_EPSILON: tl.constexpr, NEXT: tl.constexpr,
    HEAD: tl.constexpr, ACTIVATION: tl.constexpr, FIRST_DROP: tl.constexpr, SECOND_DROP: tl.constexpr,
    ADDED: tl.constexpr, INNER: tl.constexpr, CHANNELS: tl.constexpr, SUM: tl.constexpr, PARTS: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    channel = tl.arange(0, WIDTH)
    inside = channel < CHANNELS
    zero = tl.zeros([WIDTH], SUM)
    of_shift, of_scale, of_norm_weight, of_norm_bias = zero, zero, zero, zero
    of_gain, of_kept, of_next_weight, of_next_bias = zero, zero, zero, zero
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        row = (tile * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        real = (row < rows)[:, None] & inside[None, :]
        place = row[:, None] * CHANNELS + channel[None, :]
        total = tl.zeros([ROWS, WIDTH], SUM)
        if d_out is not None:
            total += tl.load(d_out + place, mask=real, other=0.0).to(SUM)
        if d_after is not None:
            found, to_weight, to_bias = _before_next(
                before, d_after, place, real, next_weight, channel, inside, NEXT_EPSILON, NEXT, CHANNELS, SUM
            )
            total, of_next_weight, of_next_bias = total + found, of_next_weight + to_weight, of_next_bias + to_bias
        if ADDED:
            if kept_C is not None:
                added = tl.load(residual + row[:, None] * residual_stride + channel[None, :], mask=real, other=0.0)
                of_kept += tl.sum(total * added.to(SUM), axis=0)
            of_residual = per_channel(total, kept_C, channel, inside)
            tl.store(d_residual + place, of_residual.to(d_residual.dtype.element_ty), mask=real)
        if INNER:
            raw = tl.load(given + row[:, None] * stride + channel[None, :], mask=real, other=0.0).to(SUM)
            total, to_scale, to_weight, to_bias, to_gain = _before_gain(
                total, shifted(raw, None, shift, channel, inside), scale, gain, norm_weight, norm_bias, seed, place,
                channel, inside, NORM_EPSILON, NORM, HEAD, ACTIVATION, FIRST_DROP, SECOND_DROP, CHANNELS,
            )  # fmt: skip
            of_scale, of_gain = of_scale + to_scale, of_gain + to_gain
            of_norm_weight, of_norm_bias = of_norm_weight + to_weight, of_norm_bias + to_bias
            if shift is not None:
                of_shift += tl.sum(total, axis=0)
        tl.store(d_given + place, total.to(d_given.dtype.element_ty), mask=real)
    stored = part + tl.program_id(0).to(tl.int64) * PARTS * CHANNELS + channel
    stored = _stored(stored, of_shift, inside, shift is not None, CHANNELS)
    stored = _stored(stored, of_scale, inside, scale is not None, CHANNELS)
    stored = _stored(stored, of_norm_weight, inside, NORM != "none", CHANNELS)
    stored = _stored(stored, of_norm_bias, inside, NORM != "none", CHANNELS)
    stored = _stored(stored, of_gain, inside, gain is not None, CHANNELS)
    stored = _stored(stored, of_kept, inside, kept_C is not None, CHANNELS)
    stored = _stored(stored, of_next_weight, inside, NEXT != "none", CHANNELS)
    _stored(stored, of_next_bias, inside, NEXT != "none", CHANNELS)
