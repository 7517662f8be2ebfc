"""What a transformer does to each token between two products, as one kernel, for inference.

In torch, each norm, scale, activation and sum reads and writes all tokens. Here a program reads a few tokens once, and
writes the sum with the residual and its norm once. Numbers are computed in float32, whatever type is read or written.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from phaze_ee.kernels.activations import Activation, activated
from phaze_ee.kernels.edge_forward import width_of
from phaze_ee.kernels.rounding import FUSED
from phaze_ee.kernels.sizes import tiles_of
from phaze_ee.shapes import Float

_NUMBERS, _MOST_ROWS, _WARPS = 4096, 16, 4  # of a program


class Norm(NamedTuple):
    """A norm over the channels of a token: LayerNorm, or RMSNorm if it is not centred."""

    weight_C: Float[Tensor, " C"] | None
    bias_C: Float[Tensor, " C"] | None
    epsilon: float
    centred: bool


class TokenWork(NamedTuple):
    """What is done to tokens, in this order; what is None is left out.

    Attributes:
        scale_H: multiplies the channels of each head; channels are divided into H heads.
        activation: of each number.
        norm: over the channels.
        gain_C: multiplies each channel.
        residual_TC: tokens that are added.
        kept_C: multiplies each channel of the residual.
        next: the norm that comes after.
    """

    scale_H: Float[Tensor, " H"] | None = None
    activation: Activation = "none"
    norm: Norm | None = None
    gain_C: Float[Tensor, " C"] | None = None
    residual_TC: Float[Tensor, "T C"] | None = None
    kept_C: Float[Tensor, " C"] | None = None
    next: Norm | None = None


def run(x_TC: Float[Tensor, "T C"], work: TokenWork, stored: torch.dtype | None, normed: torch.dtype) -> list[Tensor]:
    """Return the tokens before the next norm, if they are to be stored, and after it, if there is one.

    Args:
        x_TC: tokens in float32 or a half precision.
        work: what is done to them.
        stored: the type of the tokens before the next norm; None: they are not stored.
        normed: the type of those after it.
    """
    count, channels = x_TC.shape
    width = width_of(channels)
    rows = max(1, min(_MOST_ROWS, _NUMBERS // width))
    x_TC = _channels_together(x_TC)
    residual = x_TC if work.residual_TC is None else _channels_together(work.residual_TC)
    out = None if stored is None else x_TC.new_empty(count, channels, dtype=stored)
    after = None if work.next is None else x_TC.new_empty(count, channels, dtype=normed)
    if count:
        launch: Any = _token_rows[(tiles_of(count, rows),)]
        launch(
            x_TC, work.scale_H, work.gain_C, residual, work.kept_C, out, after, count, x_TC.stride(0),
            residual.stride(0), *_arguments(work.norm), *_arguments(work.next),
            HEAD=channels if work.scale_H is None else channels // len(work.scale_H), ACTIVATION=work.activation,
            ADDED=work.residual_TC is not None, CHANNELS=channels, ROWS=rows, WIDTH=width, num_warps=_WARPS, **FUSED,
        )  # fmt: skip
    return [tensor for tensor in (out, after) if tensor is not None]


def _channels_together(x_TC: Tensor) -> Tensor:
    return x_TC if x_TC.stride(1) == 1 else x_TC.contiguous()


def _arguments(norm: Norm | None) -> tuple[Any, ...]:
    """Return weight, bias, ε and kind of a norm as the kernel takes them."""
    return (None, None, 0.0, "none") if norm is None else (*norm[:3], "layer" if norm.centred else "rms")


@triton.jit
def _per_channel(found, value, channel, inside):
    """Multiply each channel by its value, if there are values."""
    if value is not None:
        found *= tl.load(value + channel, mask=inside, other=0.0).to(tl.float32)[None, :]
    return found


@triton.jit
def _normed(
    found, weight, bias, channel, inside, EPSILON: tl.constexpr, KIND: tl.constexpr, CHANNELS: tl.constexpr
):  # fmt: skip
    """Apply a norm over the channels. Numbers outside of them are zero, and stay so."""
    if KIND == "layer":
        found = tl.where(inside[None, :], found - (tl.sum(found, axis=1) / CHANNELS)[:, None], 0.0)
    if KIND != "none":
        found = found / tl.sqrt(tl.sum(found * found, axis=1) / CHANNELS + EPSILON)[:, None]
    found = _per_channel(found, weight, channel, inside)
    if bias is not None:
        found += tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)[None, :]
    return found


@triton.jit(do_not_specialize=["rows"])
def _token_rows(
    given, scale, gain, residual, kept, out, after, rows, stride, residual_stride,
    norm_weight, norm_bias, NORM_EPSILON: tl.constexpr, NORM: tl.constexpr,
    next_weight, next_bias, NEXT_EPSILON: tl.constexpr, NEXT: tl.constexpr,
    HEAD: tl.constexpr, ACTIVATION: tl.constexpr, ADDED: tl.constexpr, CHANNELS: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    channel = tl.arange(0, WIDTH)
    inside = channel < CHANNELS
    real = (row < rows)[:, None] & inside[None, :]
    found = tl.load(given + row[:, None] * stride + channel[None, :], mask=real, other=0.0).to(tl.float32)
    found = activated(_per_channel(found, scale, channel // HEAD, inside), ACTIVATION)
    found = _normed(found, norm_weight, norm_bias, channel, inside, NORM_EPSILON, NORM, CHANNELS)
    found = _per_channel(found, gain, channel, inside)
    if ADDED:
        before = tl.load(residual + row[:, None] * residual_stride + channel[None, :], mask=real, other=0.0)
        found += _per_channel(before.to(tl.float32), kept, channel, inside)
    place = row[:, None] * CHANNELS + channel[None, :]
    if out is not None:
        tl.store(out + place, found, mask=real)
    if after is not None:
        found = _normed(found, next_weight, next_bias, channel, inside, NEXT_EPSILON, NEXT, CHANNELS)
        tl.store(after + place, found, mask=real)
