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
    of_shift = tl.zeros([WIDTH], SUM)
    of_scale = tl.zeros([WIDTH], SUM)
    of_norm_weight = tl.zeros([WIDTH], SUM)
    of_norm_bias = tl.zeros([WIDTH], SUM)
    of_gain = tl.zeros([WIDTH], SUM)
    of_kept = tl.zeros([WIDTH], SUM)
    of_next_weight = tl.zeros([WIDTH], SUM)
    of_next_bias = tl.zeros([WIDTH], SUM)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        row = (tile * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        real = (row < rows)[:, None] & inside[None, :]
        place = row[:, None] * CHANNELS + channel[None, :]
        total = tl.zeros([ROWS, WIDTH], SUM)
        if d_out is not None:
            total += tl.load(d_out + place, mask=real, other=0.0).to(SUM)
        if d_after is not None:
            hat = tl.load(before + place, mask=real, other=0.0).to(SUM)
            hat, factor = standardised(hat, inside, NEXT_EPSILON, NEXT, CHANNELS)
            here = tl.load(d_after + place, mask=real, other=0.0).to(SUM)
            of_next_weight += tl.sum(here * hat, axis=0)
            of_next_bias += tl.sum(here, axis=0)
            here = per_channel(here, next_weight, channel, inside)
            total += _through_norm(here, hat, factor, inside, NEXT, CHANNELS)
        if ADDED:
            if kept_C is not None:
                added = tl.load(residual + row[:, None] * residual_stride + channel[None, :], mask=real, other=0.0)
                of_kept += tl.sum(total * added.to(SUM), axis=0)
            of_residual = per_channel(total, kept_C, channel, inside)
            tl.store(d_residual + place, of_residual.to(d_residual.dtype.element_ty), mask=real)
        if INNER:
            raw = tl.load(given + row[:, None] * stride + channel[None, :], mask=real, other=0.0).to(SUM)
            raw = shifted(raw, None, shift, channel, inside)
            scaled = per_channel(raw, scale, channel // HEAD, inside)
            hat = activated(scaled, ACTIVATION)
            if FIRST_DROP > 0:
                hat *= kept(seed, place, FIRST_DROP)
            if NORM != "none":
                hat, factor = standardised(hat, inside, NORM_EPSILON, NORM, CHANNELS)
            if gain is not None:
                after = hat
                if NORM != "none":
                    after = shifted(hat, norm_weight, norm_bias, channel, inside)
                if SECOND_DROP > 0:
                    after *= kept(seed + 1, place, SECOND_DROP)
                of_gain += tl.sum(total * after, axis=0)
                total = per_channel(total, gain, channel, inside)
            if SECOND_DROP > 0:
                total *= kept(seed + 1, place, SECOND_DROP)
            if NORM != "none":
                of_norm_weight += tl.sum(total * hat, axis=0)
                of_norm_bias += tl.sum(total, axis=0)
                total = per_channel(total, norm_weight, channel, inside)
                total = _through_norm(total, hat, factor, inside, NORM, CHANNELS)
            if FIRST_DROP > 0:
                total *= kept(seed, place, FIRST_DROP)
            total = through_activation(total, scaled, ACTIVATION)
            if scale is not None:
                of_scale += tl.sum(total * raw, axis=0)
                total = per_channel(total, scale, channel // HEAD, inside)
        if shift is not None:
            of_shift += tl.sum(total, axis=0)
        tl.store(d_given + place, total.to(d_given.dtype.element_ty), mask=real)
    stored = part + tl.program_id(0).to(tl.int64) * PARTS * CHANNELS + channel
    if shift is not None:
        tl.store(stored, of_shift, mask=inside)
        stored += CHANNELS
    if scale is not None:
        tl.store(stored, of_scale, mask=inside)
        stored += CHANNELS
    if NORM != "none":
        tl.store(stored, of_norm_weight, mask=inside)
        tl.store(stored + CHANNELS, of_norm_bias, mask=inside)
        stored += 2 * CHANNELS
    if gain is not None:
        tl.store(stored, of_gain, mask=inside)
        stored += CHANNELS
    if kept_C is not None:
        tl.store(stored, of_kept, mask=inside)
        stored += CHANNELS
    if NEXT != "none":
        tl.store(stored, of_next_weight, mask=inside)
        tl.store(stored + CHANNELS, of_next_bias, mask=inside)
