"""A layer on rows."""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor


@final
@dataclass(frozen=True)
class Affine:
    """A layer on rows, x ↦ x · weight + bias."""

    weight: Float[Tensor, "C_in C_out"]
    bias: Float[Tensor, " C_out"]

    def __call__(self, row_VC: Float[Tensor, "V C_in"], out: Tensor | None = None) -> Float[Tensor, "V C_out"]:
        return torch.addmm(self.bias, row_VC, self.weight, out=out)

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
        """Whether FBGEMM multiplies rows of few numbers with this weight: in float32, and by torch's builds for x86."""
        fbgemm = "fbgemm" in torch.backends.quantized.supported_engines
        return fbgemm and self.weight.device.type == "cpu" and self.weight.dtype == torch.float32
