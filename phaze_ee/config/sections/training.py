"""The optimiser and its schedule."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from phaze_ee.config.sections.base import Section


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
    seed: NonNegativeInt | None = Field(
        None, description="makes a CPU run repeat bit for bit; None: drawn and recorded"
    )
