"""The network and where its exits sit."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from phaze_ee.errors import UsageError

Fraction = Annotated[float, Field(ge=0, lt=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of all sections: no unknown names, no silent conversion of types, and immutable once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


# strict=False: lists do as well as tuples and the other way round: users write both, and JSON knows lists only.
Channels = Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1)]
ConvParams = Annotated[tuple[PositiveInt, Channels], Field(strict=False)]
FcParams = Annotated[tuple[PositiveInt, Fraction], Field(strict=False)]
HeadNames = Annotated[list[str], Field(strict=False)]
ExitStage = NonNegativeInt | Literal["input"]
ModelName = Literal["ParticleNet", "ParticleTransformer", "ParticleNeXt", "PFN"]


class NetworkOptions(Section):
    """The network and its exits: conv_params … use_counts are ParticleNet's, others take network_options."""

    model_name: ModelName = Field("ParticleNet", description="the network; each has a file in network_configs")
    network_config: str | None = Field(
        None,
        description="weaver network file with get_model (and get_loss); None: network_configs/<model_name>_JetClass.py",
    )
    network_options: dict[str, Any] = Field(
        default_factory=dict,
        description='further keywords of get_model, e.g. {"num_layers": 4, "version": 2} for ParticleTransformer',
    )
    num_classes: PositiveInt | None = Field(None, description="number of classes; None: as many as the data_config has")
    num_exit_points: NonNegativeInt | None = Field(
        None, description="number of exits, after the first stages; None: one after each stage"
    )
    exit_stages: list[ExitStage] | None = Field(
        None, strict=False, description='stages with an exit, e.g. ["input", 0, 2]; overrides num_exit_points'
    )
    exit_head: str | HeadNames = Field(
        "deep_sets",
        description="kind of exit branch, or one for each exit; linear: mean over particles, one layer; "
        "linear_mean_max: mean and maximum, one layer; attention: weighted mean, layers; mlp: mean and maximum, "
        "layers; deep_sets: layers on each particle, mean and maximum, layers on both",
    )
    exit_head_width: PositiveInt = Field(64, description="channels of the hidden layers of exit branches")
    exit_head_depth: PositiveInt = Field(1, description="hidden layers in each part of an exit branch that has layers")
    exit_link: Literal["independent", "cascade", "boosted"] = Field(
        "independent",
        description="how answers build on those of earlier exits; cascade: each exit sees the one before, and the "
        "answer is an ensemble (ZTW); boosted: each corrects the sum of those before, the default and only choice of "
        "the boosted regime",
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
    def network_file(self) -> str:
        """The weaver network file, as it is looked up."""
        return self.network_config or f"network_configs/{self.model_name}_JetClass.py"

    def stages_with_exit(self, stage_count: int) -> list[int | Literal["input"]]:
        """Return the stages after which an exit sits, in a network with so many stages."""
        if self.exit_stages is not None:
            return list(self.exit_stages)
        return list(range(stage_count if self.num_exit_points is None else self.num_exit_points))

    @property
    def exit_count(self) -> int | None:
        """The number of exits, the full model not counted; None where only the network itself tells."""
        if self.exit_stages is None and self.num_exit_points is None and self.model_name != "ParticleNet":
            return None
        return len(self.stages_with_exit(len(self.conv_params)))


_PRIOR_TOLERANCE = 1e-6


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


class DataOptions(Section):
    """Where the jets come from."""

    data_config: str = Field(
        "data_configs/JetClass_full.yaml", description="weaver YAML file: selection, inputs, labels"
    )
    trust_expressions: bool = Field(
        False,
        description="let the expressions of data_config be any Python, not only what docs/SECURITY.md lists; those of "
        "a checkpoint may then be any that data_config has too",
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
    use_cache: Literal["auto", "always", "never"] = Field(
        "auto",
        description="read what mode convert made of the files; auto: where there is one of these files and this "
        "data_config",
    )
    cache_folder: str | None = Field(
        None, description="where convert writes and others look; None: data/cache of the project"
    )
    background: str | None = Field(
        None, description="class against which rejections are computed; None: label_QCD where there is one"
    )


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


class HardwareOptions(Section):
    """What the run uses of the machine."""

    num_workers: NonNegativeInt = Field(4, description="processes that read data; 0: the main process reads")
    use_amp: bool = Field(True, description="mixed precision on CUDA; on CPU it is off, with a notice")
    amp_dtype: Literal["fp16", "bf16"] = Field(
        "fp16", description="what use_amp computes in; bf16 needs no scaling of the loss, and a GPU that has it"
    )
    use_ddp: bool = Field(False, description="one process per GPU, started by torchrun")
    use_packed: bool = Field(
        True, description="on CPU, train without padding where the network can: same numbers but for rounding, faster"
    )
    use_compile: bool = Field(
        False,
        description="torch.compile the stages of a network that trains with padding; the first steps take minutes, and "
        "what it gains on your device benchmarks/gpu.py says; without effect, with a notice, where use_packed trains",
    )
    pin_memory: bool = Field(
        True,
        description="on CUDA, a thread pads the next batch in page-locked memory while the GPU works on this one; "
        "without effect on CPU",
    )
    feature_cache_gb: NonNegativeFloat = Field(
        20.0,
        description="with freeze_backbone: disk space in GB for the backbone's features, which are then computed once "
        "and not in every epoch; what needs more is computed in every epoch; gone when the training ends",
    )
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="auto: CUDA where there is one")


class LoggingOptions(Section):
    """What is written while training."""

    log_interval: PositiveInt = Field(100, description="batches between two entries of the log")
    val_interval: PositiveInt = Field(
        1, description="epochs between two validations; the last epoch is always validated"
    )
    save_interval: PositiveInt = Field(5, description="epochs between two checkpoints that are kept")
    resume_interval: NonNegativeInt = Field(
        500, description="batches between two states from which an interrupted training goes on; 0: after epochs only"
    )
    tensorboard: bool = Field(True, description="write TensorBoard logs to output/logs/train")


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
