"""What each exit is trained towards, and whether the backbone learns from it."""

import math
from collections.abc import Callable, Sequence
from typing import Protocol, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, mse_loss

from phaze_ee.config.options import ExitOptions


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


@final
class DistillLoss:
    """Cross-entropy to the true class, and to the full model's softened answer (arXiv:1503.02531).

    (1 - a) CE(f_k, y) + a T² KL(softmax(f_K / T) ‖ softmax(f_k / T)), with weight a and temperature T. T² keeps the
    gradient of the second term as large as it is at T = 1. The full model f_K is a fixed target, detached or not.
    """

    def __init__(self, *, detach: bool, weight: float, temperature: float) -> None:
        self.detach = detach
        self.weight = weight
        self.temperature = temperature

    def __call__(self, logits_ENK: Float[Tensor, "E N K"], label_N: Int[Tensor, " N"]) -> Float[Tensor, " E-1"]:
        log_p_ENK = (logits_ENK / self.temperature).log_softmax(dim=-1)
        target_NK = log_p_ENK[-1].detach()
        losses = [
            (1 - self.weight) * cross_entropy(exit_NK, label_N)
            + self.weight * self.temperature**2 * kl_div(log_p_NK, target_NK, reduction="batchmean", log_target=True)
            for exit_NK, log_p_NK in zip(logits_ENK[:-1], log_p_ENK[:-1], strict=True)
        ]
        return _stack(losses, logits_ENK)


def _stack(losses: list[Tensor], logits_ENK: Tensor) -> Tensor:
    return torch.stack(losses) if losses else logits_ENK.new_zeros(0)


def _distill(options: ExitOptions, *, detach: bool) -> DistillLoss:
    return DistillLoss(detach=detach, weight=options.distill_weight, temperature=options.distill_temperature)


EXIT_LOSSES: dict[str, Callable[[ExitOptions], ExitLoss]] = {
    "mimic_detached": lambda options: MimicLoss(detach=True),
    "mimic_flow": lambda options: MimicLoss(detach=False),
    "target_detached": lambda options: TargetLoss(detach=True),
    "target_flow": lambda options: TargetLoss(detach=False),
    "distill_detached": lambda options: _distill(options, detach=True),
    "distill_flow": lambda options: _distill(options, detach=False),
}


# From the share of the ramp that is done, in (0, 1], to the share of beta_max that applies.
BETA_SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda done: done,
    "cosine": lambda done: 0.5 * (1.0 - math.cos(math.pi * done)),
    "switch": lambda done: 1.0,
}


def beta_at(
    epoch: int, *, beta_max: Sequence[float], schedule: str, zero_epochs: int, epochs: int
) -> tuple[float, ...]:
    """Return the weight of each exit's loss in one epoch.

    It is 0 in the first ``zero_epochs`` epochs; then it rises over all epochs that remain, is above 0 from the first
    of them on, and is ``beta_max`` in the last.

    Args:
        epoch: the epoch, counted from 0.
        beta_max: the weights in the last epoch, one per exit.
        schedule: a name in :data:`BETA_SCHEDULES`.
        zero_epochs: epochs without exit loss.
        epochs: epochs in all.
    """
    if epoch < zero_epochs:
        return (0.0,) * len(beta_max)
    done = (epoch - zero_epochs + 1) / (epochs - zero_epochs)
    share = BETA_SCHEDULES[schedule](min(done, 1.0))
    return tuple(share * weight for weight in beta_max)
