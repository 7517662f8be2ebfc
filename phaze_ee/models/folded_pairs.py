"""The layers on pairs of particles in inference, with their normalisations folded into them."""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from phaze_ee.models.folded import Folded
from phaze_ee.models.pair_layers import PairLayers
from phaze_ee.models.particle_net.folding import fold_layer, normalisation
from phaze_ee.shapes import Float

if TYPE_CHECKING:
    from phaze_ee.kernels.edge_conv import EdgeLayers


class PairWeights(NamedTuple):
    """What the kernel of inference takes.

    Attributes:
        scale_shift_2F: applied to features before the first layer.
        layers: the layers.
    """

    scale_shift_2F: Float[torch.Tensor, "2 F"]
    layers: "EdgeLayers"


class FoldedPairs:
    """The weights of one PairEmbed by the type of operands, computed again when a parameter has changed."""

    def __init__(self) -> None:
        self._known: dict[torch.dtype, Folded[PairWeights]] = {}

    def __call__(self, embed: Any, layers: PairLayers, kind: torch.dtype) -> PairWeights:
        """Return the weights.

        Args:
            embed: weaver's PairEmbed.
            layers: its layers.
            kind: the type of the operands of products.
        """
        known = self._known.get(kind)
        if known is None or not known.is_current:
            known = self._known[kind] = Folded.of(embed, lambda: _folded(layers, kind))
        return known.weights


@torch.no_grad()
def _folded(layers: PairLayers, kind: torch.dtype) -> PairWeights:
    from phaze_ee.kernels.edge_conv import stack_layers

    sums = layers.convolutions[0].weight.dtype
    folded = [fold_layer(*layer).to(sums) for layer in zip(layers.convolutions, layers.norms, strict=True)]
    if layers.input_norm is None:
        scale_F = torch.ones_like(folded[0].weight[:, 0])
        scale_shift_2F = torch.stack([scale_F, torch.zeros_like(scale_F)])
    else:
        scale_shift_2F = torch.stack(normalisation(layers.input_norm)).to(sums)
    return PairWeights(scale_shift_2F, stack_layers([(layer.weight, layer.bias) for layer in folded], kind))
