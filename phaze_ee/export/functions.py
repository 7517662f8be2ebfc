"""What torch's layers and special functions write into a file; this module knows all functions of torch on values."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phaze_ee.errors import UsageError
from phaze_ee.export.operations import OPERATIONS, binary, power, reduce, square, where, writes
from phaze_ee.export.shaping import cat, chunk, reshape
from phaze_ee.export.values import Scaled, Transposed, Value, as_value, node

__all__ = ["OPERATIONS"]

_TERMS = 28  # of series, for an error below 2e-14
_TINY = 1e-30


@writes("norm")
def norm(x: Value, dim: int, keepdim: bool = False) -> Value:
    """Write the lengths of vectors."""
    length: Value = reduce("ReduceSum", square(x), dim, keepdim).sqrt()
    return length


@writes("linalg_cross")
def cross(x: Value, y: Value, dim: int = -1) -> Value:
    """Write the cross products of vectors with three components."""
    (x1, x2, x3), (y1, y2, y3) = chunk(x, 3, dim), chunk(y, 3, dim)
    return cat([x2 * y3 - x3 * y2, x3 * y1 - x1 * y3, x1 * y2 - x2 * y1], dim)


@writes("matmul")
def matmul(x: Any, y: Any) -> Value:
    """Write a product of matrices, or of a matrix and a vector."""
    if isinstance(x, Scaled) and isinstance(y, Tensor):
        return gemm(None, x, y)
    like = x if isinstance(x, Value) else y
    x, y = as_value(like, x), as_value(like, y)
    shape = x.shape[:-1] if len(y.shape) == 1 else (*x.shape[:-1], y.shape[-1])
    return node(like.graph, "MatMul", x, y, shape=shape)


@writes("addmm")
def gemm(bias: Tensor | None, x: Value, weight: Tensor, out: None = None) -> Value:
    """Write x · weight + bias for the rows of x."""
    if isinstance(x, Scaled):
        weight, bias = x.into(weight, bias)
        x = x.row_VC
    if bias is None:
        return matmul(x, weight)
    factors = as_value(x, weight), as_value(x, bias)
    shape = x.shape[0], weight.shape[1]
    if isinstance(x, Transposed):
        return node(x.graph, "Gemm", x.column_CV, *factors, shape=shape, transA=1)
    return node(x.graph, "Gemm", x, *factors, shape=shape)


@writes("linear")
def linear(x: Value, weight: Tensor, bias: Tensor | None = None) -> Value:
    """Write a linear layer on the last dimension."""
    if len(x.shape) == 2 or bias is None:
        return gemm(bias, x, weight.T)
    return binary("Add", matmul(x, weight.T), bias)


@writes("conv2d", "conv1d")
def convolution(x: Value, weight: Tensor, bias: Tensor | None = None, *_: Any) -> Value:
    """Write a convolution with a kernel of one slot, on (N, C, …) with at most one size unknown."""
    sizes = x.shape[2:]
    flat = matmul(weight.flatten(1), reshape(x, 1, x.shape[1], -1))
    result = reshape(flat, 1, weight.shape[0], *sizes)
    return result if bias is None else result + bias.view(-1, *[1] * len(sizes))


@writes("batch_norm")
def batch_norm(
    x: Value, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, *, eps: float = 1e-5, **_: Any
) -> Value:
    """Write a BatchNorm in evaluation, on (N, C, …)."""
    scale_C = weight.double() / torch.sqrt(variance.double() + eps)
    shift_C = bias.double() - mean.double() * scale_C
    shape = (-1, *[1] * (len(x.shape) - 2))
    return x * scale_C.view(shape) + shift_C.view(shape)


@writes("layer_norm")
def layer_norm(x: Value, _: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Value:
    """Write a normalisation of the last dimension, with the operator where the opset has it."""
    if x.graph.opset >= 17 and weight is not None and bias is not None:
        inputs = as_value(x, weight), as_value(x, bias)
        return node(x.graph, "LayerNormalization", x, *inputs, shape=x.shape, axis=-1, epsilon=eps)
    centred = x - reduce("ReduceMean", x, -1, keepdim=True)
    spread: Value = (reduce("ReduceMean", square(centred), -1, keepdim=True) + eps).sqrt()
    result = centred / spread
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


@writes("rms_norm")
def rms_norm(x: Value, _: Any, weight: Tensor | None = None, eps: float | None = None) -> Value:
    """Write a normalisation of the last dimension by its root mean square."""
    smallest = torch.finfo(x.dtype).eps if eps is None else eps
    spread: Value = (reduce("ReduceMean", square(x), -1, keepdim=True) + smallest).sqrt()
    return x / spread if weight is None else x / spread * weight


@writes("gelu")
def gelu(x: Value, approximate: str = "none") -> Value:
    """Write a GELU with the error function, as ONNX Runtime knows it."""
    if approximate != "none":
        raise UsageError("an exit uses GELU with approximate = 'tanh', which export cannot write; use 'none'")
    if x.graph.opset >= 20 and x.dtype == torch.float32:
        return node(x.graph, "Gelu", x, shape=x.shape)
    share: Value = (x / 2**0.5).erf() + 1.0
    return x * share * 0.5


@writes("erf")
def _erf(x: Value) -> Value:
    return node(x.graph, "Erf", x, shape=x.shape) if x.dtype == torch.float32 else _erf_in_double(x)


def _erf_in_double(x: Value) -> Value:
    """Write the error function for double precision, in which ONNX Runtime has none.

    erf(x) = sign(x) (1 − exp(−x²) erfcx(|x|)), with a Chebyshev series of erfcx in 4 / (2 + |x|) − 1.
    """
    from scipy.special import erfcx

    size: Value = x.abs()
    scaled = _series(lambda u: erfcx(4 / (u + 1 + 1e-300) - 2), 4.0 / (size + 2.0) - 1.0)
    decay: Value = (-square(x)).exp()
    return where(x < 0.0, decay * scaled - 1.0, 1.0 - decay * scaled)


def _series(function: Callable[[Any], Any], u: Value) -> Value:
    """Write a function of numbers between −1 and 1 as a Chebyshev series, by Clenshaw's recurrence."""
    series = np.polynomial.chebyshev.chebinterpolate(function, _TERMS)
    twice_u, later, last = u * 2.0, u * 0.0, u * 0.0
    for coefficient in reversed(series[1:]):
        later, last = twice_u * later - last + float(coefficient), later
    return twice_u * later * 0.5 - last + float(series[0])


@writes("atan2")
def atan2(y: Value, x: Value) -> Value:
    """Write the angle of a vector; that of the zero vector is 0."""
    ratio = y / where(x == 0.0, _TINY, x)
    quarter = node(x.graph, "Atan", ratio, shape=ratio.shape) if x.dtype == torch.float32 else _atan_in_double(ratio)
    return where(x < 0.0, where(y < 0.0, quarter - np.pi, quarter + np.pi), quarter)


def _atan_in_double(x: Value) -> Value:
    """Write the arctangent for double precision, in which ONNX Runtime has none."""
    size: Value = x.abs()
    inverse = 1.0 / where(size > 1.0, size, 1.0)
    small = _series(lambda u: np.arctan((u + 1) / 2), where(size > 1.0, inverse, size) * 2.0 - 1.0)
    angle = where(size > 1.0, np.pi / 2 - small, small)
    return where(x < 0.0, -angle, angle)


@writes("asinh")
def asinh(x: Value) -> Value:
    """Write the inverse hyperbolic sine."""
    if x.dtype == torch.float32:
        return node(x.graph, "Asinh", x, shape=x.shape)
    size: Value = x.abs()
    result: Value = (size + power(square(x) + 1.0, 0.5)).log()
    return where(x < 0.0, -result, result)


@writes("acos")
def _acos(x: Value) -> Value:
    return atan2(power(1.0 - square(x), 0.5), x)


@writes("remainder")
def remainder(x: Value, divisor: float) -> Value:
    """Write a remainder with the sign of the divisor."""
    whole: Value = (x / divisor).floor()
    return x - whole * divisor


@writes("silu")
def _silu(x: Value, inplace: bool = False) -> Value:
    share: Value = x.sigmoid()
    return x * share
