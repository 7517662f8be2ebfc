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
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
# strict=False: lists do as well as tuples and the other way round: users write both, and JSON knows lists only.
Channels = Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1)]
ConvParams = Annotated[tuple[PositiveInt, Channels], Field(strict=False)]
FcParams = Annotated[tuple[PositiveInt, Fraction], Field(strict=False)]
_PRIOR_TOLERANCE = 1e-6
HeadNames = Annotated[list[str], Field(strict=False)]
ExitStage = NonNegativeInt | Literal["input"]
ExitLossStrategy = Literal[
    "mimic_detached", "mimic_flow", "target_detached", "target_flow", "distill_detached", "distill_flow"
]


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
    exit_head: str | HeadNames = Field(
        "linear",
        description="kind of exit branch, or one for each exit; linear: mean over particles, one layer; deep_sets: "
        "layers on each particle, mean and maximum, layers on both",
    )
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
    use_counts: bool = Field(
        True,
        description="average over real particles, not over padded slots (over which answers depend on the batch)",
    )
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
        description="mimic_*: MSE to the full model's logits; target_*: cross-entropy; distill_*: cross-entropy and "
        "KL divergence to the full model; *_detached: exits alone learn",
    )
    distill_weight: Share = Field(0.5, description="distill_*: share of the divergence; the rest is cross-entropy")
    distill_temperature: PositiveFloat = Field(
        1.0, description="distill_*: what the logits are divided by in the divergence; more: softer answers"
    )
    freeze_backbone: bool = Field(
        False, description="exits alone learn, and the full model stays as init_from has it, bit for bit"
    )
    beta_max: list[NonNegativeFloat] = Field(
        [0.3, 0.5, 1.0],
        strict=False,
        description="weight of each exit's loss at the end of training, one number per exit",
    )
    beta_schedule: Literal["linear", "cosine", "switch"] = Field(
        "linear",
        description="how beta rises over the epochs after zero_epochs; switch: at once, and the default with "
        "freeze_backbone",
    )
    zero_epochs: NonNegativeInt = Field(
        10,
        description="epochs at the start in which beta is 0; where it is not set: a fifth of epochs, at most 10; with "
        "freeze_backbone 0, and nothing else is accepted",
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


class CalibrationOptions(Section):
    """Where jets leave: what that may cost, for mode calibrate; its flags go before these options."""

    calibration_files: list[str] = Field(
        default_factory=list,
        strict=False,
        description="files that calibrate reads, never those of train_files or test_files; empty: the part of the "
        "validation jets that calibration_share keeps from the training",
    )
    calibration_share: Fraction = Field(
        0.5, description="share of the validation jets kept for calibrate, where calibration_files is empty"
    )
    exit_target: Literal["accuracy_drop", "agreement", "signal_efficiency", "budget"] = Field(
        "accuracy_drop",
        description="what leaving early may cost: jets made wrong; jets answered otherwise (no labels needed); kept "
        "signal lost at a working point; budget: the best accuracy at a mean cost",
    )
    epsilon: OpenFraction = Field(0.01, description="largest probability of what exit_target counts")
    delta: OpenFraction = Field(0.05, description="the promise may be broken with this probability")
    risk_control: Literal["ltt", "crc"] = Field(
        "ltt", description="ltt: risk below epsilon with confidence 1 - delta; crc: expected risk below epsilon"
    )
    exit_score: Literal["confidence", "entropy", "margin", "patience", "gate", "window"] | None = Field(
        None, description="by what jets leave; None: window for signal_efficiency, else confidence"
    )
    signal: str | None = Field(None, description="signal_efficiency: the signal class, against c.background")
    signal_efficiency: OpenFraction = Field(
        0.5, description="signal_efficiency: the working point, as the full model's efficiency"
    )
    background_growth: PositiveFloat = Field(
        0.05, description="signal_efficiency, two_sided: by how much the accepted background may grow, relatively"
    )
    exit_form: Literal["reject", "two_sided"] = Field(
        "reject", description="signal_efficiency: jets leave below the cut only, or on both sides of it"
    )
    cost_budget: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="budget: mean cost, as a share of the full model's MACs"
    )
    class_prior: dict[str, NonNegativeFloat] | None = Field(
        None,
        description="shares of the classes for which costs are minimised and reported, e.g. a trigger's: "
        '{"label_QCD": 0.999, "label_Hbb": 0.001}; None: as in the files',
    )
    fit_temperatures: bool = Field(
        True, description="divide the logits of each exit by a fitted temperature, so that merged scores have no steps"
    )

    @model_validator(mode="after")
    def _prior_has_weight(self) -> Self:
        if self.class_prior is not None and abs(sum(self.class_prior.values()) - 1) > _PRIOR_TOLERANCE:
            raise ValueError(f"the shares of class_prior add up to {sum(self.class_prior.values()):g}; make them 1")
        return self


class LoggingOptions(Section):
    """What is written while training."""

    log_interval: PositiveInt = Field(100, description="batches between two entries of the log")
    val_interval: PositiveInt = Field(
        1, description="epochs between two validations; the last epoch is always validated"
    )
    save_interval: PositiveInt = Field(5, description="epochs between two checkpoints that are kept")
    tensorboard: bool = Field(True, description="write TensorBoard logs to output/logs/train")


class Options(
    DataOptions, NetworkOptions, ExitOptions, TrainingOptions, HardwareOptions, CalibrationOptions, LoggingOptions
):
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
    def _exits_start_in_time(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if values.get("freeze_backbone") is True:
            return {"zero_epochs": 0, "beta_schedule": "switch", **values}
        epochs = values.get("epochs")
        if not isinstance(epochs, int):
            return values
        return {"zero_epochs": min(cls.model_fields["zero_epochs"].default, epochs // 5), **values}

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

    @model_validator(mode="after")
    def _something_learns(self) -> Self:
        if self.freeze_backbone and not self.exit_count:
            raise ValueError("freeze_backbone leaves nothing to train in a network without exits; give it exits")
        if self.freeze_backbone and self.zero_epochs:
            raise ValueError(
                f"zero_epochs = {self.zero_epochs} with freeze_backbone: nothing would learn then; set it to 0"
            )
        return self


SECTIONS: tuple[type[Section], ...] = (
    DataOptions,
    NetworkOptions,
    ExitOptions,
    TrainingOptions,
    HardwareOptions,
    CalibrationOptions,
    LoggingOptions,
)
