"""The layers of weaver's PairEmbed, in the order in which kernels take them."""

from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from phaze_ee.kernels.activations import Activation


class PairLayers(NamedTuple):
    """The layers of weaver's PairEmbed: a normalisation, and before each next one a convolution.

    Attributes:
        input_norm: of the features; None: they are not normalised.
        convolutions: each on single pairs.
        norms: after each convolution.
        activation: after each normalisation but the last.
        last: after the last one.
    """

    input_norm: _BatchNorm | None
    convolutions: tuple[nn.Conv1d, ...]
    norms: tuple[_BatchNorm, ...]
    activation: "Activation"
    last: "Activation"

    @property
    def all_norms(self) -> tuple[_BatchNorm, ...]:
        """The normalisations in their order."""
        return self.norms if self.input_norm is None else (self.input_norm, *self.norms)

    @property
    def widest(self) -> int:
        """The most channels of a layer."""
        return max(max(layer.in_channels, layer.out_channels) for layer in self.convolutions)


def usual_layers(embed: Any) -> PairLayers | None:
    """Return the layers of weaver's PairEmbed; None if they are not in weaver's order, or of other kinds."""
    layers = list(embed.embed)
    input_norm = layers.pop(0) if layers and isinstance(layers[0], _BatchNorm) else None
    convolutions, norms, activations = layers[0::3], layers[1::3], [_activation(layer) for layer in layers[2::3]]
    usual = (
        all(isinstance(layer, nn.Conv1d) and layer.kernel_size == (1,) and layer.groups == 1 for layer in convolutions)
        and all(isinstance(norm, _BatchNorm) for norm in norms)
        and len(convolutions) == len(norms) > 0
        and None not in activations
        and len(set(activations)) <= 1
    )
    if not usual:
        return None
    activation = activations[0] if activations and activations[0] is not None else "none"
    last = activation if len(activations) == len(norms) else "none"
    found = PairLayers(input_norm, tuple(convolutions), tuple(norms), activation, last)
    complete = all(norm.affine and norm.running_mean is not None for norm in found.all_norms)
    return found if complete else None


def _activation(layer: nn.Module) -> "Activation | None":
    if isinstance(layer, nn.GELU) and layer.approximate == "none":
        return "gelu"
    return "relu" if isinstance(layer, nn.ReLU) else None
