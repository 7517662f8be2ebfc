"""Layers behind a ReLU, which leave out the products with zeros where these are many.

In trained ParticleNets 20 to 30 % of the numbers behind the ReLU of an edge layer are positive. Where rows are stored
by their positive numbers, :func:`torch.nn.functional.embedding_bag` is the product of such rows with a matrix: the bag
of a row holds the rows of the weight that belong to its positive numbers, each times that number. On x86, FBGEMM does
this with the processor's vectors; elsewhere, and in float64, a plain loop does, and the dense product is faster.
"""

import threading

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import embedding_bag

from phaze_ee.models.affine import Affine
from phaze_ee.models.compiled.rows import compress

# Bags pay where fewer than a share _EVEN · N / (N + _OVERHEAD) of the numbers is positive, for a layer with N outputs:
# what benchmarks/sparse.py measured on one core of an AMD EPYC with AVX-512.
_EVEN = 0.52
_OVERHEAD = 64


class _Memory(threading.local):
    """Rows stored by their positive numbers: memory that each thread keeps."""

    def __init__(self) -> None:
        self.hold(0, 0)

    def hold(self, numbers: int, rows: int) -> None:
        self.column_S = torch.empty(numbers, dtype=torch.int32)
        self.value_S = torch.empty(numbers)
        self.start_R = torch.empty(rows + 1, dtype=torch.int32)
        self.arrays = self.column_S.numpy(), self.value_S.numpy(), self.start_R.numpy()

    def compress(self, row_RC: Tensor, share: float) -> int:
        """Return how many numbers are stored; −1: more than this share of them is positive, and none is."""
        rows, columns = row_RC.shape
        if self.value_S.shape[0] < rows * (columns + 1) or self.start_R.shape[0] < rows + 1:
            self.hold(rows * (columns + 1), rows)
        return compress(row_RC.numpy(), share, *self.arrays)


_memory = _Memory()


def behind_relu(layers: tuple[Affine, ...], row_RC: Float[Tensor, "R C_in"]) -> Float[Tensor, "R C_out"]:
    """Apply layers one after the other, each behind a ReLU.

    Args:
        layers: the layers.
        row_RC: what the first gets; may be overwritten.
    """
    for layer in layers:
        used = _memory.compress(row_RC, share_that_pays(layer)) if layer.has_fast_bags else -1
        row_RC = layer(row_RC.relu_()) if used < 0 else _bags(layer, used, row_RC.shape[0])
    return row_RC


def _bags(layer: Affine, used: int, rows: int) -> Tensor:
    sum_RC: Tensor = embedding_bag(
        _memory.column_S[:used],
        layer.weight_and_bias,
        _memory.start_R[: rows + 1],
        mode="sum",
        per_sample_weights=_memory.value_S[:used],
        include_last_offset=True,
    )
    return sum_RC


def share_that_pays(layer: Affine) -> float:
    """Return the share of positive numbers below which it pays to leave out the others."""
    return _EVEN * layer.outputs / (layer.outputs + _OVERHEAD)
