"""What the outputs of a network with targets are: logits of the classes, then values of the targets."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from phaze_ee.shapes import Float


@final
class TargetOutputs(nn.Module):
    """Splits K + R outputs into the logits of K classes and the values of R targets, in the targets' own units.

    Network and heads give standardised values: value = center + spread × output. Center and spread are buffers, so a
    checkpoint keeps them.

    Args:
        count: the number of targets R, at least 1.
    """

    center_R: Float[Tensor, " R"]
    spread_R: Float[Tensor, " R"]

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.register_buffer("center_R", torch.zeros(count))
        self.register_buffer("spread_R", torch.ones(count))

    def set_scales(self, center_R: Sequence[float], spread_R: Sequence[float]) -> None:
        """Set center and spread of each target."""
        self.center_R.copy_(torch.tensor(center_R))
        self.spread_R.copy_(torch.tensor(spread_R))

    def forward(self, output_NO: Float[Tensor, "N K+R"]) -> tuple[Float[Tensor, "N K"], Float[Tensor, "N R"]]:
        """Return the logits and the values of jets; the values are float32 at least."""
        logits_NK, scaled_NR = output_NO[:, : -self.count], output_NO[:, -self.count :]
        return logits_NK, self.center_R + self.spread_R * scaled_NR
