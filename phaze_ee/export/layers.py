"""Layers that act on each row alone, written for rows: normalisations go into the weights beside them."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from phaze_ee.export.functions import gemm
from phaze_ee.export.values import Scaled, Value

Norm = nn.modules.batchnorm._BatchNorm


def on_rows(modules: Iterable[nn.Module], row_VC: Value) -> Value:
    """Apply a sequence of layers to rows (V, C): those of weaver act on (N, C, P) or (N, C, P, k), with kernels of one.

    A BatchNorm after a convolution is folded into it; one before it is taken into its weights (:class:`Scaled`).
    """
    layers = [layer for module in modules for layer in _flat(module)]
    while layers:
        layer, *layers = layers
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            weight, bias = layer.weight.flatten(1).T, layer.bias
            if layers and isinstance(layers[0], Norm):
                scale_C, shift_C = scale_and_shift(layers[0])
                weight = weight.double() * scale_C
                bias = shift_C if bias is None else bias.double() * scale_C + shift_C
                layers = layers[1:]
            row_VC = gemm(bias, row_VC, weight)
        elif isinstance(layer, Norm):
            row_VC = Scaled(row_VC, *(value.to(row_VC.dtype) for value in scale_and_shift(layer)))
        else:
            written: Any = layer(row_VC)
            row_VC = written
    return row_VC


def scale_and_shift(norm: Norm) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scale and the shift of a BatchNorm in evaluation, in double precision."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale_C = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale_C, norm.bias.double() - norm.running_mean.double() * scale_C


def _flat(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.Sequential):
        return [layer for part in module for layer in _flat(part)]
    return [] if isinstance(module, nn.Identity) else [module]
