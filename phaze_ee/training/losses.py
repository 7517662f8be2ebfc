"""What each exit is trained towards, and whether the backbone learns from it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, mse_loss, softplus

from phaze_ee.config.options import ExitOptions
from phaze_ee.names import CROSS_ENTROPY
from phaze_ee.registry import Registry
from phaze_ee.shapes import Float, Int

# From the completed share of the ramp, in (0, 1], to the share of beta_max that applies.
BETA_SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda done: done,
    "cosine": lambda done: 0.5 * (1.0 - math.cos(math.pi * done)),
    "switch": lambda done: 1.0,
}


class ExitLoss(ABC):
    """The loss of each exit. One class gives two values of c.exit_loss_strategy: NAME_detached and NAME_flow.

    Every loss is constructed with the same arguments.

    Args:
        options: how the exits are trained. A loss may use any of these options.
        detach: let no gradient flow from the exits into the backbone.
    """

    name: ClassVar[str]

    def __init__(self, options: ExitOptions, *, detach: bool) -> None:
        self.options = options
        self.detach = detach

    @property
    def title(self) -> str:
        """What the loss is, for the axis of a figure."""
        return f"{self.name} loss"

    @abstractmethod
    def __call__(self, logits_ENK: Float[Tensor, "E N K"], label_N: Int[Tensor, " N"]) -> Float[Tensor, " E-1"]:
        """Return one number for each exit.

        Args:
            logits_ENK: the logits of all exits; those of the full model are the last.
            label_N: the true classes.
        """


EXIT_LOSSES: Registry[type[ExitLoss]] = Registry("exit_loss", ExitLoss)


def make_loss(strategy: str, options: ExitOptions) -> ExitLoss:
    """Return the loss of an ``exit_loss_strategy``.

    Args:
        strategy: the name of a loss, then "_detached" or "_flow".
        options: what the loss is constructed with.
    """
    name, _, way = strategy.rpartition("_")
    return EXIT_LOSSES[name](options, detach=way == "detached")


@final
class MimicLoss(ExitLoss):
    """Mean squared error between the logits of an exit and those of the full model.

    Detached, the full model is a fixed target and only the exit heads learn. Otherwise gradients reach both sides: the
    exit's path through the backbone, and the full model.
    """

    name: ClassVar[str] = "mimic"

    @property
    def title(self) -> str:
        return "MSE to full model's logits"

    def __call__(self, logits_ENK: Float[Tensor, "E N K"], label_N: Int[Tensor, " N"]) -> Float[Tensor, " E-1"]:
        target_NK = logits_ENK[-1].detach() if self.detach else logits_ENK[-1]
        return _stack([mse_loss(exit_NK, target_NK) for exit_NK in logits_ENK[:-1]], logits_ENK)


@final
class TargetLoss(ExitLoss):
    """Cross-entropy between the answer of an exit and the true class."""

    name: ClassVar[str] = "target"

    @property
    def title(self) -> str:
        return CROSS_ENTROPY

    def __call__(self, logits_ENK: Float[Tensor, "E N K"], label_N: Int[Tensor, " N"]) -> Float[Tensor, " E-1"]:
        return _stack([cross_entropy(exit_NK, label_N) for exit_NK in logits_ENK[:-1]], logits_ENK)


@final
class DistillLoss(ExitLoss):
    """Cross-entropy to the true class, and to the softened answer of the full model (arXiv:1503.02531).

    (1 - a) CE(f_k, y) + a T² KL(softmax(f_K / T) ‖ softmax(f_k / T)), with a = distill_weight and
    T = distill_temperature. T² keeps the gradient of the second term as large as it is at T = 1. The full model f_K is
    a fixed target, detached or not.
    """

    name: ClassVar[str] = "distill"

    @property
    def title(self) -> str:
        weight, temperature = self.options.distill_weight, self.options.distill_temperature
        tempered = "" if temperature == 1 else f"·{temperature:g}²"
        return f"{1 - weight:g}·CE + {weight:g}{tempered}·KL"

    def __call__(self, logits_ENK: Float[Tensor, "E N K"], label_N: Int[Tensor, " N"]) -> Float[Tensor, " E-1"]:
        weight, temperature = self.options.distill_weight, self.options.distill_temperature
        log_p_ENK = (logits_ENK / temperature).log_softmax(dim=-1)
        target_NK = log_p_ENK[-1].detach()
        losses = [
            (1 - weight) * cross_entropy(exit_NK, label_N)
            + weight * temperature**2 * kl_div(log_p_NK, target_NK, reduction="batchmean", log_target=True)
            for exit_NK, log_p_NK in zip(logits_ENK[:-1], log_p_ENK[:-1], strict=True)
        ]
        return _stack(losses, logits_ENK)


def regression_loss(
    value_NR: Float[Tensor, "N R"], target_NR: Float[Tensor, "N R"], spread_R: Float[Tensor, " R"]
) -> Float[Tensor, ""]:
    """Return the mean of log cosh((value - target) / spread) over jets and targets.

    It is quadratic near 0 and linear for outliers. weaver's regression mode leaves the loss to the network file.
    """
    scaled_NR = (value_NR - target_NR) / spread_R
    return (scaled_NR + softplus(-2.0 * scaled_NR) - math.log(2.0)).mean()


def beta_at(
    epoch: int, *, beta_max: Sequence[float], schedule: str, zero_epochs: int, epochs: int
) -> tuple[float, ...]:
    """Return the weight of the loss of each exit in one epoch.

    The weight is 0 in the first ``zero_epochs`` epochs. It rises over the remaining epochs: it is above 0 in the first
    of them and reaches ``beta_max`` in the last.

    Args:
        epoch: the epoch, counted from 0.
        beta_max: the weights in the last epoch, one per exit.
        schedule: a name in :data:`BETA_SCHEDULES`.
        zero_epochs: number of epochs without exit loss.
        epochs: number of all epochs.
    """
    if epoch < zero_epochs:
        return (0.0,) * len(beta_max)
    done = (epoch - zero_epochs + 1) / (epochs - zero_epochs)
    share = BETA_SCHEDULES[schedule](min(done, 1.0))
    return tuple(share * weight for weight in beta_max)


def _stack(losses: list[Tensor], logits_ENK: Tensor) -> Tensor:
    return torch.stack(losses) if losses else logits_ENK.new_zeros(0)
