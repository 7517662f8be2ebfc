"""What each exit is trained towards, and whether the backbone learns from it."""

from typing import Protocol, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss


class ExitLoss(Protocol):
    """The loss of each exit. ``detach``: no gradient flows from the exit heads into the backbone."""

    detach: bool

    def __call__(self, logits_ENK: Float[Tensor, "E N K"], label_N: Int[Tensor, " N"]) -> Float[Tensor, " E-1"]: ...


@final
class MimicLoss:
    """Mean squared error between an exit's logits and the full model's.

    Detached, the full model is a fixed target and the exit heads alone learn. Otherwise gradients reach both sides:
    the exit's path through the backbone, and the full model.
    """

    def __init__(self, *, detach: bool) -> None:
        self.detach = detach

    def __call__(self, logits_ENK: Float[Tensor, "E N K"], label_N: Int[Tensor, " N"]) -> Float[Tensor, " E-1"]:
        target_NK = logits_ENK[-1].detach() if self.detach else logits_ENK[-1]
        return _stack([mse_loss(exit_NK, target_NK) for exit_NK in logits_ENK[:-1]], logits_ENK)


@final
class TargetLoss:
    """Cross-entropy between an exit and the true class; detached, the exit heads alone learn."""

    def __init__(self, *, detach: bool) -> None:
        self.detach = detach

    def __call__(self, logits_ENK: Float[Tensor, "E N K"], label_N: Int[Tensor, " N"]) -> Float[Tensor, " E-1"]:
        return _stack([cross_entropy(exit_NK, label_N) for exit_NK in logits_ENK[:-1]], logits_ENK)


def _stack(losses: list[Tensor], logits_ENK: Tensor) -> Tensor:
    return torch.stack(losses) if losses else logits_ENK.new_zeros(0)


EXIT_LOSSES: dict[str, ExitLoss] = {
    "mimic_detached": MimicLoss(detach=True),
    "mimic_flow": MimicLoss(detach=False),
    "target_detached": TargetLoss(detach=True),
    "target_flow": TargetLoss(detach=False),
}
