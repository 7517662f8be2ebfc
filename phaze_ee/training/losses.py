"""What each exit is trained towards, and whether the backbone learns from it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, mse_loss, softplus

from phaze_ee.config.options import ExitOptions, Options
from phaze_ee.errors import UsageError
from phaze_ee.names import CROSS_ENTROPY
from phaze_ee.registry import Registry
from phaze_ee.shapes import Float, Int

# From the completed share of the ramp, in (0, 1], to the share of beta_max that applies.
BETA_SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda done: done,
    "cosine": lambda done: 0.5 * (1.0 - math.cos(math.pi * done)),
    "switch": lambda done: 1.0,
}


@final
@dataclass(frozen=True)
class WorkingPoint:
    """The cut on ln(p_signal / p_background) at which the full model keeps the fraction ``efficiency`` of the signal.

    Attributes:
        signal: index of the signal class.
        background: index of the background class.
        efficiency: between 0 and 1.
        lost: the fraction of the kept signal that early exits may lose.
    """

    signal: int
    background: int
    efficiency: float
    lost: float


class ExitLoss(ABC):
    """The loss of each exit. One class gives two values of c.exit_loss_strategy: NAME_detached and NAME_flow.

    Every loss is constructed with the same arguments.

    Args:
        options: how the exits are trained. A loss may use any of these options.
        detach: let no gradient flow from the exits into the backbone.

    Attributes:
        needs_working_point: whether the loss is for one signal and one background. The accuracy of such exits says
            nothing; where the best epoch depends on the exits, their validation loss decides.
    """

    name: ClassVar[str]
    needs_working_point: ClassVar[bool] = False

    def __init__(self, options: ExitOptions, *, detach: bool) -> None:
        self.options = options
        self.detach = detach

    @property
    def title(self) -> str:
        """What the loss is, for the axis of a figure."""
        return f"{self.name} loss"

    def at(self, point: WorkingPoint | None, exit_count: int) -> None:
        """Prepare for a training.

        Args:
            point: the working point; None: the configuration names none.
            exit_count: number of exits, without the full model.

        Raises:
            UsageError: the loss needs a working point.
        """
        if self.needs_working_point and point is None:
            raise UsageError(
                f"exit_loss_strategy = '{self.name}_*' needs a working point: set c.signal, and c.background if it is "
                "not label_QCD"
            )

    @abstractmethod
    def __call__(self, logits_ENK: Float[Tensor, "E N K"], label_N: Int[Tensor, " N"]) -> Float[Tensor, " E-1"]:
        """Return one number for each exit.

        Args:
            logits_ENK: the logits of all exits; those of the full model are the last.
            label_N: the true classes.
        """


EXIT_LOSSES: Registry[type[ExitLoss]] = Registry("exit_loss", ExitLoss)


def loss_class(strategy: str) -> type[ExitLoss]:
    """Return the loss of an ``exit_loss_strategy``, without "_detached" or "_flow"."""
    return EXIT_LOSSES[strategy.rpartition("_")[0]]


def is_for_a_point(options: Options) -> bool:
    """Return whether exits learn for one working point. Then they have no class probabilities."""
    return options.exit_count != 0 and loss_class(options.exit_loss_strategy).needs_working_point


def make_loss(strategy: str, options: ExitOptions, point: WorkingPoint | None = None, exit_count: int = 0) -> ExitLoss:
    """Return the loss of an ``exit_loss_strategy``.

    Args:
        strategy: the name of a loss, then "_detached" or "_flow".
        options: what the loss is constructed with.
        point: the working point of the training, if there is one.
        exit_count: number of exits, without the full model, for a loss that needs a working point.

    Raises:
        UsageError: the loss needs a working point.
    """
    loss = loss_class(strategy)(options, detach=strategy.endswith("_detached"))
    loss.at(point, exit_count)
    return loss


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
