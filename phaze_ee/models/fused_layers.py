"""Layers of a training step on CUDA: a normalisation, an activation and the next product, with Triton kernels.

Rows are the edges of an EdgeConv block or pairs of particles. A layer is stored before its normalisation, whose
statistics are those of all rows of all processes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from phaze_ee.machine import summed
from phaze_ee.models.particle_net.batch_norm import Statistics, of_all_processes
from phaze_ee.shapes import Float

if TYPE_CHECKING:
    from phaze_ee.kernels.activations import Activation
    from phaze_ee.kernels.edge_forward import Rows

_TENSORS = 7  # of a layer


class Norm(NamedTuple):
    """A BatchNorm layer and the activation after it."""

    epsilon: float
    activation: "Activation"


class Layer(NamedTuple):
    """A layer of rows: its normalisation, and its numbers (None for a first layer that is gathered).

    A first layer that is not normalised has no scale and no statistics.
    """

    norm: Norm
    scale_C: Tensor | None
    statistics: Statistics | tuple[None, None, None]
    constant_6C: Float[Tensor, "6 C"]  # scale, shift; in the backward pass direct factor, slope, offset; mean
    stored_EC: Tensor | None
    matrix_CC: Tensor | None  # in the type of the operands

    def with_gradients(self, sums_2C: Float[Tensor, "2 C"]) -> tuple["Layer", Tensor, Tensor]:
        """Return the layer with the factors of its gradient, and the gradients of scale and shift.

        Args:
            sums_2C: the sums over rows of the gradient after the normalisation, and of it times z − μ.
        """
        from phaze_ee.kernels.normalisation import gradient_constants

        assert isinstance(self.statistics, Statistics)
        assert self.scale_C is not None
        _, variance_C, total = self.statistics
        constant_6C, d_scale_C = gradient_constants(
            self.constant_6C, self.scale_C, variance_C, total, sums_2C, summed(sums_2C), self.norm.epsilon
        )
        return self._replace(constant_6C=constant_6C), d_scale_C, sums_2C[0]

    def tensors(self) -> list[Tensor | None]:
        """Return what a backward pass needs, for :func:`layers_from`."""
        return [self.scale_C, *self.statistics, self.constant_6C, self.stored_EC, self.matrix_CC]


def plain_layer(stored_EC: Float[Tensor, "E C"]) -> Layer:
    """Return a first layer without normalisation and activation."""
    constant_6C = stored_EC.new_zeros(6, stored_EC.shape[1])
    constant_6C[0] = 1
    return Layer(Norm(0.0, "none"), None, (None, None, None), constant_6C, stored_EC, None)


def first_layer(
    rows: "Rows",
    stored_EC: Float[Tensor, "E C"] | None,
    norm: Norm,
    parameters: Sequence[Float[Tensor, " C"]],
    zeros: int = 0,
) -> Layer:
    """Return the first layer; its normalisation has a scale and a shift as parameters.

    Its statistics are also those of more rows, as many as ``zeros``, which are zero.
    """
    from phaze_ee.kernels.edge_forward import first_statistics

    tiles = first_statistics(rows, stored_EC, len(parameters[0]), zeros)
    return _layer(norm, parameters, Statistics(*tiles.joined()), stored_EC, None)


def next_layer(
    rows: "Rows",
    before: Layer,
    matrix_CC: Float[Tensor, "C_out C_in"],
    norm: Norm,
    parameters: Sequence[Float[Tensor, " C_out"]],
) -> Layer:
    """Return the layer after another one; its normalisation has a scale and a shift as parameters."""
    from phaze_ee.kernels import edge_forward as kernels

    matrix_CC = matrix_CC.to(rows.like.dtype).contiguous()
    stored_EC, tiles = kernels.next_layer(rows, before.stored_EC, before.constant_6C, matrix_CC, before.norm.activation)
    return _layer(norm, parameters, Statistics(*tiles.joined()), stored_EC, matrix_CC)


def _layer(
    norm: Norm, parameters: Sequence[Tensor], own: Statistics, stored_EC: Tensor | None, matrix_CC: Tensor | None
) -> Layer:
    from phaze_ee.kernels.normalisation import constants

    statistics = of_all_processes(own)
    scale_C, shift_C = parameters
    constant_6C = constants(scale_C, shift_C, statistics.mean_C, statistics.variance_C, norm.epsilon)
    return Layer(norm, scale_C, statistics, constant_6C, stored_EC, matrix_CC)


def layers_from(saved: Sequence[Any], norms: Sequence[Norm]) -> list[Layer]:
    """Return layers from their tensors, one after the other."""
    layers = []
    for index, norm in enumerate(norms):
        scale_C, mean_C, *others = saved[_TENSORS * index : _TENSORS * (index + 1)]
        statistics = (None, None, None) if mean_C is None else Statistics(mean_C, *others[:2])
        layers.append(Layer(norm, scale_C, statistics, *others[2:]))
    return layers


class LayerGradients(NamedTuple):
    """The gradients of layers.

    Attributes:
        norms: scale and shift of each normalisation.
        matrices: the weights between layers.
        first: the first layer, with the factors of its gradient.
        given: the gradient of the first layer after its normalisation; of a first layer that is not normalised, none.
        last: whether the first layer is the last one of edges too.
    """

    norms: list[Tensor]
    matrices: list[Tensor]
    first: Layer
    given: Tensor
    last: bool


def layer_gradients(
    rows: "Rows", layers: Sequence[Layer], given: Tensor, sums_2C: Float[Tensor, "2 C"], *, last: bool
) -> LayerGradients:
    """Return the gradients of layers.

    Args:
        rows: the rows.
        layers: all layers.
        given: the gradient of the last layer after its normalisation; of edges, that of the mean over neighbours.
        sums_2C: its sums over rows, as :meth:`Layer.with_gradients` takes them.
        last: the layers are those of edges.
    """
    from phaze_ee.kernels import edge_backward as kernels

    d_norms: list[Tensor] = []
    d_matrices: list[Tensor] = []
    here, *d_parameters = layers[-1].with_gradients(sums_2C)
    d_norms[:0] = d_parameters
    for before in reversed(layers[:-1]):
        assert here.stored_EC is not None
        assert here.matrix_CC is not None
        stored, constants = (before.stored_EC, here.stored_EC), (before.constant_6C, here.constant_6C)
        activation = before.norm.activation
        d_matrices.insert(0, kernels.weight_gradient(rows, stored, constants, given, activation, last=last))
        if before.scale_C is None:
            return LayerGradients(d_norms, d_matrices, before, given, last)
        given, sums_2C = kernels.layer_before(rows, stored, constants, here.matrix_CC, given, activation, last=last)
        last = False
        here, *d_parameters = before.with_gradients(sums_2C)
        d_norms[:0] = d_parameters
    return LayerGradients(d_norms, d_matrices, here, given, last)


def parameters_of(norms: Sequence[nn.modules.batchnorm._BatchNorm]) -> list[Tensor]:
    """Return scale and shift of each normalisation."""
    return [value for norm in norms for value in (norm.weight, norm.bias)]
