"""Multiply-accumulates of layers."""

from torch import nn


def macs_per_row(module: nn.Module) -> int:
    """Return the multiply-accumulates that a module spends on the channels of one particle, edge or jet.

    They are those of its linear layers and of its convolutions with a kernel of one slot, each applied once.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)]
    return sum(layer.weight.numel() for layer in layers)
