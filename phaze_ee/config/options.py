"""Every option of a configuration file: its type, its default and its meaning, stated once.

The sections are classes of their own, so that a library takes only what it uses; a configuration is all of them in one
flat namespace, as ``set_config(c)`` writes it.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

Fraction = Annotated[float, Field(ge=0, lt=1)]
# strict=False: lists do as well as tuples and the other way round: users write both, and JSON knows lists only.
Channels = Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1)]
ConvParams = Annotated[tuple[PositiveInt, Channels], Field(strict=False)]
FcParams = Annotated[tuple[PositiveInt, Fraction], Field(strict=False)]
ExitStage = NonNegativeInt | Literal["input"]
ExitLossStrategy = Literal["mimic_detached", "mimic_flow", "target_detached", "target_flow"]


class Section(BaseModel):
    """Base of all sections: no unknown names, no silent conversion of types, and immutable once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DataOptions(Section):
    """Where the jets come from."""

    data_config: str = Field(
        "data_configs/JetClass_full.yaml", description="weaver YAML file: selection, inputs, labels"
    )
    train_files: list[str] = Field(
        strict=False, min_length=1, description="training files, glob patterns allowed (** is recursive)"
    )
    val_files: list[str] = Field(strict=False, min_length=1, description="validation files")
    test_files: list[str] = Field(
        default_factory=list,
        strict=False,
        description="files that evaluate reads; empty: the validation files, with a warning",
    )
    background: str | None = Field(
        None, description="class against which rejections are computed; None: label_QCD where there is one"
    )


class NetworkOptions(Section):
    """The network and its exits."""

    network_config: str = Field(
        "network_configs/ParticleNet_JetClass.py", description="weaver network file with get_model (and get_loss)"
    )
    num_classes: PositiveInt | None = Field(None, description="number of classes; None: as many as the data_config has")
    num_exit_points: NonNegativeInt | None = Field(
        None, description="number of exits, after the first stages; None: one after each stage"
    )
    exit_stages: list[ExitStage] | None = Field(
        None, strict=False, description='stages with an exit, e.g. ["input", 0, 2]; overrides num_exit_points'
    )
    exit_head: str = Field("linear", description="kind of exit branch; linear: mean over particles, one layer")
    conv_params: list[ConvParams] = Field(
        [(16, (64, 64, 64)), (16, (128, 128, 128)), (16, (256, 256, 256))],
        strict=False,
        min_length=1,
        description="EdgeConv blocks: (nearest neighbours, (channels, …))",
    )
    fc_params: list[FcParams] = Field(
        [(256, 0.1)],
        strict=False,
        min_length=1,
        description="hidden layers of the full model's own head: (channels, dropout)",
    )
    use_fusion: bool = Field(False, description="feed the full model's head with all blocks, not the last alone")
    use_fts_bn: bool = Field(True, description="BatchNorm on the input features (as the published weights have it)")
    use_counts: bool = Field(True, description="average over real particles, not over padded slots")
    init_from: str | None = Field(None, description="checkpoint to start from: ours, or one written by weaver")

    @property
    def stages_with_exit(self) -> list[int | Literal["input"]]:
        """The stages after which an exit sits."""
        if self.exit_stages is not None:
            return list(self.exit_stages)
        count = len(self.conv_params) if self.num_exit_points is None else self.num_exit_points
        return list(range(count))

    @property
    def exit_count(self) -> int:
        """The number of exits, the full model not counted."""
        return len(self.stages_with_exit)


class ExitOptions(Section):
    """How the exits are trained: total loss = CE(full model) + sum over exits of beta × exit loss."""

    exit_loss_strategy: ExitLossStrategy = Field(
        "mimic_detached",
        description="mimic_*: MSE to the full model's logits; target_*: cross-entropy; *_detached: exits alone learn",
    )
    beta_max: list[NonNegativeFloat] = Field(
        [0.3, 0.5, 1.0],
        strict=False,
        description="weight of each exit's loss at the end of training, one number per exit",
    )
    beta_schedule: Literal["linear", "cosine", "switch"] = Field(
        "linear", description="how beta rises over the epochs after zero_epochs; switch: at once"
    )
    zero_epochs: NonNegativeInt = Field(
        10, description="epochs at the start in which beta is 0; where it is not set: a fifth of epochs, at most 10"
    )


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


class HardwareOptions(Section):
    """What the run uses of the machine."""

    num_workers: NonNegativeInt = Field(4, description="processes that read data; 0: the main process reads")
    use_amp: bool = Field(True, description="mixed precision (fp16) on CUDA; on CPU it is off, with a notice")
    use_ddp: bool = Field(False, description="one process per GPU, started by torchrun")
    use_packed: bool = Field(
        True, description="on CPU, train without padding where the network can: same numbers but for rounding, faster"
    )
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="auto: CUDA where there is one")


class LoggingOptions(Section):
    """What is written while training."""

    log_interval: PositiveInt = Field(100, description="batches between two entries of the log")
    val_interval: PositiveInt = Field(
        1, description="epochs between two validations; the last epoch is always validated"
    )
    save_interval: PositiveInt = Field(5, description="epochs between two checkpoints that are kept")
    tensorboard: bool = Field(True, description="write TensorBoard logs to output/logs/train")


class Options(DataOptions, NetworkOptions, ExitOptions, TrainingOptions, HardwareOptions, LoggingOptions):
    """A whole configuration."""

    @model_validator(mode="after")
    def _exits_have_weights(self) -> Self:
        if self.exit_count != len(self.beta_max):
            raise ValueError(
                f"beta_max has {len(self.beta_max)} numbers for {self.exit_count} exits; give one number per exit"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _short_trainings_start_soon(cls, values: Any) -> Any:
        epochs = values.get("epochs") if isinstance(values, dict) else None
        if not isinstance(epochs, int) or "zero_epochs" in values:
            return values
        return {**values, "zero_epochs": min(cls.model_fields["zero_epochs"].default, epochs // 5)}

    @model_validator(mode="after")
    def _exits_get_trained(self) -> Self:
        if self.exit_count and not any(self.beta_max):
            raise ValueError(
                "beta_max is 0 for every exit, so that none would learn; raise it, or set num_exit_points = 0 and "
                "beta_max = [] for a network without exits"
            )
        if self.exit_count and self.zero_epochs >= self.epochs:
            raise ValueError(
                f"zero_epochs = {self.zero_epochs} leaves no epoch of {self.epochs} to train the exits in; "
                "lower zero_epochs or raise epochs"
            )
        return self


SECTIONS: tuple[type[Section], ...] = (
    DataOptions,
    NetworkOptions,
    ExitOptions,
    TrainingOptions,
    HardwareOptions,
    LoggingOptions,
)
