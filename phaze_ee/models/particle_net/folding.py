"""Weights of ParticleNet for inference: BatchNorm is folded into the layers, the first edge layer is split."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn
from weaver.nn.model.ParticleNet import EdgeConvBlock
from weaver.nn.model.ParticleNet import ParticleNet as WeaverParticleNet

from phaze_ee.models.precision import operand_type
from phaze_ee.shapes import Float

if TYPE_CHECKING:
    from phaze_ee.kernels.edge_conv import EdgeLayers


@final
@dataclass(frozen=True)
class Affine:
    """A layer on rows, x ↦ x · weight + bias."""

    weight: Float[Tensor, "C_in C_out"]
    bias: Float[Tensor, " C_out"]
    _operands: dict[torch.dtype, "Affine"] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, row_VC: Float[Tensor, "V C_in"], out: Tensor | None = None) -> Float[Tensor, "V C_out"]:
        """Apply the layer, with operands in the precision of autocast; the result is in that of ``out`` or of the rows.

        Args:
            row_VC: the rows.
            out: where to write, in the type of the rows or of the operands.
        """
        kind = operand_type(self.weight)
        if kind == self.weight.dtype:
            return torch.addmm(self.bias, row_VC, self.weight, out=out)
        # Autocast would round the weights in each call.
        layer, operand_VC = self.in_operands(kind), row_VC.to(kind)
        if out is None:
            return torch.addmm(layer.bias, operand_VC, layer.weight).to(row_VC.dtype)
        return torch.addmm(layer.bias, operand_VC, layer.weight, out=out)

    def in_operands(self, dtype: torch.dtype) -> "Affine":
        """Return the layer in a type of operands, converted once."""
        if dtype not in self._operands:
            self._operands[dtype] = self.to(dtype)
        return self._operands[dtype]

    @property
    def inputs(self) -> int:
        return len(self.weight)

    @property
    def outputs(self) -> int:
        return len(self.bias)

    @cached_property
    def weight_and_bias(self) -> Float[Tensor, "C_in+1 C_out"]:
        """The weight, and the bias as its last row."""
        return torch.cat([self.weight, self.bias[None]])

    def scaled(self, factor: float) -> "Affine":
        return Affine(self.weight * factor, self.bias * factor)

    def to(self, dtype: torch.dtype) -> "Affine":
        return Affine(self.weight.to(dtype).contiguous(), self.bias.to(dtype))

    @cached_property
    def has_fast_bags(self) -> bool:
        """Whether FBGEMM has a sparse product with this weight: in float32, in builds of torch for x86."""
        fbgemm = "fbgemm" in torch.backends.quantized.supported_engines
        return fbgemm and self.weight.device.type == "cpu" and self.weight.dtype == torch.float32


# Outputs of the widest layer that are computed at once on a CPU: 32 particles with 16 edges of 256 channels in float32
# take half a megabyte, which stays in the cache of one core.
_TOGETHER = 32 * 16 * 256


@final
@dataclass(frozen=True)
class FoldedEdgeConv:
    """One EdgeConv block.

    The first edge layer is linear in the pair (x_i, x_j − x_i), and W [x_i, x_j − x_i] = (W1 − W2) x_i + W2 x_j: both
    terms are evaluated per particle, and gathered and added per edge. The outputs of ``per_particle`` are the first
    term, the second term and, if the shortcut has a layer, the shortcut, side by side. The mean over neighbours becomes
    a sum, with 1/k in the last layer, because ReLU(x)/k = ReLU(x/k).
    """

    k: int
    channels: int  # of the first layer
    per_particle: Affine
    per_edge: tuple[Affine, ...]
    _kernel_layers: dict[torch.dtype, "EdgeLayers"] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def has_shortcut_layer(self) -> bool:
        return self.per_particle.outputs > 2 * self.channels

    @property
    def particles_together(self) -> int:
        """Number of particles whose edges are evaluated at once on a CPU."""
        return max(1, _TOGETHER // (self.k * self.widest))

    @cached_property
    def fits_kernel(self) -> bool:
        """Whether the kernel for CUDA takes the block. Needs Triton."""
        from phaze_ee.kernels import edge_conv as kernel

        return kernel.fits([layer.weight for layer in self.per_edge], self.k)

    def kernel_layers(self, dtype: torch.dtype) -> "EdgeLayers":
        """Return the layers on edges as the kernel for CUDA takes them, with operands of a type. Needs Triton."""
        from phaze_ee.kernels import edge_conv as kernel

        if dtype not in self._kernel_layers:
            self._kernel_layers[dtype] = kernel.stack_layers(
                [(layer.weight, layer.bias) for layer in self.per_edge], dtype
            )
        return self._kernel_layers[dtype]

    @property
    def outputs(self) -> int:
        return self.per_edge[-1].outputs if self.per_edge else self.channels

    @property
    def widest(self) -> int:
        """The largest number of channels of an edge."""
        return max(self.channels, *(layer.outputs for layer in self.per_edge), 0)


@final
@dataclass(frozen=True)
class FoldedParticleNet:
    """The folded weights of all layers."""

    feature_scale_C: Float[Tensor, " C"]
    feature_shift_C: Float[Tensor, " C"]
    edge_convs: tuple[FoldedEdgeConv, ...]
    fusion: Affine | None
    per_jet: tuple[Affine, ...]


@torch.no_grad()
def fold(mod: WeaverParticleNet, input_channels: int) -> FoldedParticleNet:
    """Return the folded weights of a module, computed in float64 and converted to the type of the module."""
    like = next(mod.parameters())
    if mod.use_fts_bn:
        scale_C, shift_C = normalisation(mod.bn_fts)
    else:
        scale_C, shift_C = like.new_ones(input_channels), like.new_zeros(input_channels)
    # The only other layer is dropout, which does nothing in inference.
    linear = [layer for layer in mod.fc.modules() if isinstance(layer, nn.Linear)]
    return FoldedParticleNet(
        feature_scale_C=scale_C.to(like.dtype),
        feature_shift_C=shift_C.to(like.dtype),
        edge_convs=tuple(_fold_edge_conv(block, like.dtype) for block in mod.edge_convs),
        fusion=fold_layer(*mod.fusion_block[:2]).to(like.dtype) if mod.use_fusion else None,
        per_jet=tuple(Affine(layer.weight.T, layer.bias) for layer in linear),
    )


def normalisation(norm: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor, Tensor]:
    """Return the scale and the shift of BatchNorm in evaluation, in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale_C = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale_C, norm.bias.double() - norm.running_mean.double() * scale_C


def fold_layer(convolution: nn.Conv1d | nn.Conv2d, norm: nn.modules.batchnorm._BatchNorm) -> Affine:
    """Return a convolution of single rows and the BatchNorm after it as one layer, in float64."""
    scale_C, shift_C = normalisation(norm)
    if convolution.bias is not None:
        shift_C = shift_C + scale_C * convolution.bias.double()
    return Affine((convolution.weight.flatten(1).double() * scale_C[:, None]).T, shift_C)


def _fold_edge_conv(block: EdgeConvBlock, dtype: torch.dtype) -> FoldedEdgeConv:
    layers = [fold_layer(convolution, norm) for convolution, norm in zip(block.convs, block.bns, strict=True)]
    layers[-1] = layers[-1].scaled(1 / block.k)
    own_weight, difference_weight = layers[0].weight.chunk(2)
    parts = [
        Affine(own_weight - difference_weight, layers[0].bias),
        Affine(difference_weight, torch.zeros_like(layers[0].bias)),
        *([fold_layer(block.sc, block.sc_bn)] if block.sc is not None else []),
    ]
    side_by_side = Affine(torch.cat([part.weight for part in parts], dim=1), torch.cat([part.bias for part in parts]))
    return FoldedEdgeConv(
        k=int(block.k),
        channels=len(layers[0].bias),
        per_particle=side_by_side.to(dtype),
        per_edge=tuple(layer.to(dtype) for layer in layers[1:]),
    )
