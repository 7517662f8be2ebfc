"""How exits are trained."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from phaze_ee.config.sections.base import Section, Share
from phaze_ee.errors import UsageError

# strict=False: tuples do as well as lists; and a number does as well as a list of one.
Weights = Annotated[
    list[NonNegativeFloat], Field(strict=False), BeforeValidator(lambda value: [value] if _is_number(value) else value)
]
ExitLossStrategy = Literal[
    "mimic_detached", "mimic_flow", "target_detached", "target_flow", "distill_detached", "distill_flow"
]


class ExitOptions(Section):
    """How the exits are trained: total loss = CE(full model) + sum over exits of beta × exit loss."""

    exit_loss_strategy: ExitLossStrategy = Field(
        "distill_detached",
        description="mimic_*: MSE to the full model's logits; target_*: cross-entropy; distill_*: cross-entropy and "
        "KL divergence to the full model; *_detached: exits alone learn",
    )
    distill_weight: Share = Field(0.5, description="distill_*: share of the divergence; the rest is cross-entropy")
    distill_temperature: PositiveFloat = Field(
        1.0, description="distill_*: what the logits are divided by in the divergence; more: softer answers"
    )
    training_regime: Literal["ramp", "joint", "mixed", "disjoint", "boosted"] = Field(
        "ramp",
        description="ramp: beta rises after zero_epochs, by beta_schedule; joint: backbone and exits from the first "
        "epoch on; mixed: the backbone alone for zero_epochs, then both; disjoint: the backbone alone for zero_epochs, "
        "then the exits alone on the frozen backbone, with a learning-rate schedule of its own for each; boosted: as "
        "joint, exits as one boosted ensemble (sets exit_link and target_flow). All but ramp: beta at its maximum",
    )
    freeze_backbone: bool = Field(
        False, description="exits alone learn, and the full model stays as init_from has it, bit for bit"
    )
    beta_max: Weights = Field(
        [0.3, 0.5, 1.0],
        description="weight of each exit's loss at the end of training: one number per exit, or one for all",
    )
    beta_schedule: Literal["linear", "cosine", "switch"] = Field(
        "linear",
        description="how beta rises over the epochs after zero_epochs; switch: at once, the default with "
        "freeze_backbone, and the only choice of every training_regime but ramp",
    )
    zero_epochs: NonNegativeInt = Field(
        10,
        description="epochs at the start in which beta is 0; where it is not set: a fifth of epochs, at most 10; half "
        "of epochs in the regimes mixed and disjoint; with freeze_backbone and in the regimes joint and boosted 0, and "
        "nothing else is accepted",
    )

    @property
    def ends_frozen(self) -> bool:
        """Whether the exits learn on a backbone that no longer does."""
        return self.freeze_backbone or self.training_regime == "disjoint"

    def weights(self, exit_count: int) -> tuple[float, ...]:
        """Return beta_max for each of so many exits.

        Raises:
            UsageError: it does not have one number per exit.
        """
        if len(self.beta_max) == 1:
            return tuple(self.beta_max) * exit_count
        if len(self.beta_max) != exit_count:
            raise UsageError(
                f"beta_max has {len(self.beta_max)} numbers for {exit_count} exits; give one number per exit, or one "
                "for all"
            )
        return tuple(self.beta_max)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
