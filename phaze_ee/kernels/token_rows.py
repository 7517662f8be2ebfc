"""What a transformer does to each token between two products, as one kernel.

In torch, each norm, scale, activation and sum reads and writes all tokens. Here a program reads a few tokens once, and
writes the sum with the residual and its norm once. Numbers of a half precision are computed in float32.
``token_gradients.py`` has the backward pass.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from phaze_ee.kernels.activations import Activation, activated
from phaze_ee.kernels.dropout import kept
from phaze_ee.kernels.edge_forward import TYPES, sums_of, width_of
from phaze_ee.kernels.rounding import FUSED
from phaze_ee.kernels.sizes import tiles_of
from phaze_ee.shapes import Float

_NUMBERS, _MOST_ROWS, WARPS = 4096, 16, 4  # of a program


class Norm(NamedTuple):
    """A norm over the channels of a token: LayerNorm, or RMSNorm if it is not centred."""

    weight_C: Float[Tensor, " C"] | None
    bias_C: Float[Tensor, " C"] | None
    epsilon: float
    centred: bool


class TokenWork(NamedTuple):
    """What is done to tokens, in this order; what is None is left out.

    Attributes:
        shift_C: is added to each channel: the bias of the product before.
        scale_H: multiplies the channels of each head; channels are divided into H heads.
        activation: of each number.
        first_drop: the probability to drop a number.
        norm: over the channels.
        second_drop: the probability to drop a number.
        gain_C: multiplies each channel.
        residual_TC: tokens that are added.
        kept_C: multiplies each channel of the residual.
        next: the norm that comes after.
        seed: of what is dropped.
    """

    shift_C: Float[Tensor, " C"] | None = None
    scale_H: Float[Tensor, " H"] | None = None
    activation: Activation = "none"
    first_drop: float = 0.0
    norm: Norm | None = None
    second_drop: float = 0.0
    gain_C: Float[Tensor, " C"] | None = None
    residual_TC: Float[Tensor, "T C"] | None = None
    kept_C: Float[Tensor, " C"] | None = None
    next: Norm | None = None
    seed: int = 0

    @property
    def changes(self) -> bool:
        """Whether tokens before the next norm are others than those that are given."""
        parts = (self.shift_C, self.scale_H, self.norm, self.gain_C, self.residual_TC)
        return self.activation != "none" or any(part is not None for part in parts) or self.drops

    @property
    def drops(self) -> bool:
        """Whether numbers are dropped."""
        return self.first_drop > 0 or self.second_drop > 0

    def arguments(self, x_TC: Tensor) -> dict[str, Any]:
        """Return what the kernels need to know, but for the tokens."""
        channels = x_TC.shape[1]
        return {
            "shift": self.shift_C,
            "scale": self.scale_H,
            "gain": self.gain_C,
            "kept_C": self.kept_C,
            "rows": len(x_TC),
            "stride": x_TC.stride(0),
            "seed": self.seed,
            **_arguments("norm", self.norm),
            **_arguments("next", self.next),
            "HEAD": channels if self.scale_H is None else channels // len(self.scale_H),
            "ACTIVATION": self.activation,
            "FIRST_DROP": self.first_drop,
            "SECOND_DROP": self.second_drop,
            "ADDED": self.residual_TC is not None,
            "CHANNELS": channels,
            "WIDTH": width_of(channels),
            "SUM": TYPES[sums_of(x_TC.dtype)],
            "num_warps": WARPS,
            **FUSED,
        }


def run(x_TC: Float[Tensor, "T C"], work: TokenWork, stored: torch.dtype | None, normed: torch.dtype) -> list[Tensor]:
    """Return the tokens before the next norm, if they are to be stored, and after it, if there is one.

    Args:
        x_TC: tokens in float32 or a half precision.
        work: what is done to them.
        stored: the type of the tokens before the next norm; None: they are not stored.
        normed: the type of those after it.
    """
    count, channels = x_TC.shape
    rows = max(1, min(_MOST_ROWS, _NUMBERS // width_of(channels)))
    x_TC = channels_together(x_TC)
    residual = x_TC if work.residual_TC is None else channels_together(work.residual_TC)
    out = None if stored is None else x_TC.new_empty(count, channels, dtype=stored)
    after = None if work.next is None else x_TC.new_empty(count, channels, dtype=normed)
    if count:
        launch: Any = _token_rows[(tiles_of(count, rows),)]
        launch(
            given=x_TC, residual=residual, out=out, after=after, residual_stride=residual.stride(0), ROWS=rows,
            **work.arguments(x_TC),
        )  # fmt: skip
    return [tensor for tensor in (out, after) if tensor is not None]


def channels_together(x_TC: Tensor) -> Tensor:
    """Return tokens whose channels lie beside each other, not copied where they do."""
    return x_TC if x_TC.stride(1) == 1 else x_TC.contiguous()


def _arguments(which: str, norm: Norm | None) -> dict[str, Any]:
    """Return weight, bias, ε and kind of a norm as the kernels take them."""
    kind = "none" if norm is None else "layer" if norm.centred else "rms"
    weight, bias, epsilon = (None, None, 0.0) if norm is None else norm[:3]
    constants = {f"{which.upper()}_EPSILON": epsilon, which.upper(): kind}
    return {f"{which}_weight": weight, f"{which}_bias": bias, **constants}


@triton.jit
def per_channel(found, value, channel, inside):
    """Multiply each channel by its value, if there are values."""
    if value is not None:
        found *= tl.load(value + channel, mask=inside, other=0.0).to(found.dtype)[None, :]
    return found


@triton.jit
def standardised(found, inside, EPSILON: tl.constexpr, KIND: tl.constexpr, CHANNELS: tl.constexpr):
    """Return numbers with the mean and the size that a norm gives them, and by what their differences were multiplied.

    Numbers outside the channels are zero, and stay so.
    """
    if KIND == "layer":
        found = tl.where(inside[None, :], found - (tl.sum(found, axis=1) / CHANNELS)[:, None], 0.0)
    squares = tl.sum(found * found, axis=1)
    factor = 1.0 / tl.sqrt(squares / CHANNELS + EPSILON)
    return found * factor[:, None], factor


@triton.jit
def shifted(found, weight, bias, channel, inside):
    """Return numbers times the weight of their channel, plus its bias."""
    found = per_channel(found, weight, channel, inside)
    if bias is not None:
        found += tl.load(bias + channel, mask=inside, other=0.0).to(found.dtype)[None, :]
    return found


@triton.jit(do_not_specialize=["rows", "seed"])
def _token_rows(
    given, shift, scale, gain, residual, kept_C, out, after, rows, stride, residual_stride, seed,
    norm_weight, norm_bias, NORM_EPSILON: tl.constexpr, NORM: tl.constexpr,
    next_weight, next_bias, NEXT_EPSILON: tl.constexpr, NEXT: tl.constexpr,
    HEAD: tl.constexpr, ACTIVATION: tl.constexpr, FIRST_DROP: tl.constexpr, SECOND_DROP: tl.constexpr,
    ADDED: tl.constexpr, CHANNELS: tl.constexpr, SUM: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    channel = tl.arange(0, WIDTH)
    inside = channel < CHANNELS
    real = (row < rows)[:, None] & inside[None, :]
    place = row[:, None] * CHANNELS + channel[None, :]
    found = tl.load(given + row[:, None] * stride + channel[None, :], mask=real, other=0.0).to(SUM)
    found = shifted(found, None, shift, channel, inside)
    found = activated(per_channel(found, scale, channel // HEAD, inside), ACTIVATION)
    if FIRST_DROP > 0:
        found *= kept(seed, place, FIRST_DROP)
    if NORM != "none":
        found, _ = standardised(found, inside, NORM_EPSILON, NORM, CHANNELS)
        found = shifted(found, norm_weight, norm_bias, channel, inside)
    if SECOND_DROP > 0:
        found *= kept(seed + 1, place, SECOND_DROP)
    found = per_channel(found, gain, channel, inside)
    if ADDED:
        before = tl.load(residual + row[:, None] * residual_stride + channel[None, :], mask=real, other=0.0)
        found += per_channel(before.to(SUM), kept_C, channel, inside)
    if out is not None:
        tl.store(out + place, found, mask=real)
    if after is not None:
        found, _ = standardised(found, inside, NEXT_EPSILON, NEXT, CHANNELS)
        tl.store(after + place, shifted(found, next_weight, next_bias, channel, inside), mask=real)
