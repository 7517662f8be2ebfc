"""The optimiser and its schedule."""

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from phaze_ee.config.sections.base import Fraction, Section


class TrainingOptions(Section):
    """The optimiser and its schedule."""

    epochs: PositiveInt = Field(50, description="passes over the training files")
    lr: PositiveFloat = Field(0.002, description="learning rate at its highest")
    batch_size: PositiveInt = Field(512, description="jets per step (per process)")
    optimizer: Literal["ranger", "adamw", "adam"] = Field("ranger", description="ranger: RAdam + Lookahead, weaver's")
    lr_schedule: Literal["flat_decay", "cosine", "one_cycle", "none"] = Field(
        "flat_decay", description="per step; flat_decay: 70 % flat, then exponentially down to 1 %"
    )
    weight_decay: NonNegativeFloat = Field(
        0.01, description="decoupled (with adam: in the gradient); biases and BatchNorm are spared"
    )
    gradient_clip: NonNegativeFloat = Field(1.0, description="largest norm of the gradient; 0: no clipping")
    accumulate_batches: PositiveInt = Field(1, description="batches whose gradients make one step")
    steps_per_epoch: PositiveInt | None = Field(
        None,
        description="batches that count as an epoch, whatever the number of jets: the next epoch goes on where one "
        "ends; None: all jets once",
    )
    samples_per_epoch: PositiveInt | None = Field(
        None, description="the same as a number of jets (of all processes), rounded up to whole batches"
    )
    early_stopping: NonNegativeInt = Field(
        0, description="epochs without a better model after which the training ends, once exits learn; 0: never"
    )
    ema_decay: Fraction = Field(
        0.0,
        description="the models that are validated and kept are a moving average of the weights, of which each step "
        "keeps this share, e.g. 0.999; 0: the weights themselves",
    )
    skip_nan_batches: NonNegativeInt = Field(
        0, description="batches with a loss that is not finite that are left out, at most, before the training stops"
    )
    seed: NonNegativeInt | None = Field(
        None, description="makes a CPU run repeat bit for bit; None: drawn and recorded"
    )

    @model_validator(mode="after")
    def _one_length_of_an_epoch(self) -> Self:
        if self.steps_per_epoch is not None and self.samples_per_epoch is not None:
            raise ValueError("steps_per_epoch and samples_per_epoch both say how long an epoch is; remove one")
        return self
