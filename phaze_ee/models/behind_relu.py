"""Layers behind a ReLU, which leave out the products with zeros where these are many.

In trained ParticleNets 20 to 30 % of the numbers behind the ReLU of an edge layer are positive. Where rows are stored
by their positive numbers, :func:`torch.nn.functional.embedding_bag` is the product of such rows with a matrix: the bag
of a row holds the rows of the weight that belong to its positive numbers, each times that number. On x86, FBGEMM does
this with the processor's vectors; elsewhere, and in float64, a plain loop does, and the dense product is faster.
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import embedding_bag

from phaze_ee.models.affine import Affine
from phaze_ee.models.compiled.rows import compress

# Bags pay where fewer than a share _EVEN · N / (N + _OVERHEAD) of the numbers is positive, for a layer with N outputs:
# what benchmarks/sparse.py measured on one core of an AMD EPYC with AVX-512.
_EVEN = 0.45
_OVERHEAD = 32


@final
class BehindRelu:
    """Layers that follow each other, each behind a ReLU, with memory for what is made on the way.

    Args:
        layers: the layers.
        rows: how many rows come at most.
    """

    def __init__(self, layers: tuple[Affine, ...], rows: int) -> None:
        self._layers = layers
        numbers = rows * (1 + max((layer.inputs for layer in layers if layer.has_fast_bags), default=0))
        self._column = torch.empty(numbers, dtype=torch.int32)
        self._value = torch.empty(numbers)
        self._start = torch.empty(rows + 1, dtype=torch.int32)
        self._arrays = self._column.numpy(), self._value.numpy(), self._start.numpy()

    def __call__(self, row_RC: Float[Tensor, "R C_in"]) -> Float[Tensor, "R C_out"]:
        """Return what the last layer gives; what it is given may be overwritten."""
        for layer in self._layers:
            used = compress(row_RC.numpy(), share_that_pays(layer), *self._arrays) if layer.has_fast_bags else -1
            row_RC = layer(row_RC.relu_()) if used < 0 else self._bags(layer, used, row_RC.shape[0])
        return row_RC

    def _bags(self, layer: Affine, used: int, rows: int) -> Tensor:
        sum_RC: Tensor = embedding_bag(
            self._column[:used],
            layer.weight_and_bias,
            self._start[: rows + 1],
            mode="sum",
            per_sample_weights=self._value[:used],
            include_last_offset=True,
        )
        return sum_RC


def share_that_pays(layer: Affine) -> float:
    """Return the share of positive numbers below which it pays to leave out the others."""
    return _EVEN * layer.outputs / (layer.outputs + _OVERHEAD)
