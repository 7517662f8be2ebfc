"""The activations of kernels: none, ReLU and GELU as weaver has it, with the error function."""

from typing import Literal

import triton
import triton.language as tl

Activation = Literal["none", "relu", "gelu"]


@triton.jit
def activated(number, ACTIVATION: tl.constexpr):
    """Return the activation. NaN stays NaN."""
    if ACTIVATION == "relu":
        number = tl.where(number < 0, 0.0, number)
    elif ACTIVATION == "gelu":
        number = number * _normal_below(number)
    return number


@triton.jit
def through_activation(given, number, ACTIVATION: tl.constexpr):
    """Return the gradient of the number before the activation; ``given`` is that after it."""
    if ACTIVATION == "relu":
        given = tl.where(number > 0, given, 0.0)
    elif ACTIVATION == "gelu":
        density = 0.3989422804014327 * tl.exp(-0.5 * number * number)  # 1/√(2π)
        given = given * (_normal_below(number) + number * density)
    return given


@triton.jit
def _normal_below(number):
    """Return the probability of less than this number in a normal distribution."""
    return 0.5 + 0.5 * tl.erf(number * 0.7071067811865476)  # √½
