"""The options of a configuration, in sections: the type, the default and the meaning of each."""

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

from phaze_ee.config.bins import Bins
from phaze_ee.config.part_names import ExitLossStrategy, LinkName, ModelName, ScoreName
from phaze_ee.errors import UsageError
from phaze_ee.machine import Precision
from phaze_ee.registry import REGISTERED

MOST_NEIGHBOURS = 1024  # edges are computed for all of them, also where a jet has fewer particles
Fraction = Annotated[float, Field(ge=0, lt=1)]
LearningRate = Annotated[float, Field(gt=0, le=1e30)]  # a step is still a number in single precision
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]

# These networks have a file for several collections of particles.
_FOR_SEVERAL_COLLECTIONS = ("ParticleNet", "ParticleNeXt", "ParticleTransformer")


class Section(BaseModel):
    """Base of all sections: unknown names are refused, types are not converted, and values cannot change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


# strict=False: lists and tuples are both accepted. Users write both, and JSON has lists only.
Channels = Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1)]
ConvParams = Annotated[tuple[Annotated[int, Field(gt=0, le=MOST_NEIGHBOURS)], Channels], Field(strict=False)]
FcParams = Annotated[tuple[PositiveInt, Fraction], Field(strict=False)]
HeadNames = Annotated[list[str], Field(strict=False)]
ExitStage = NonNegativeInt | Literal["input"]


class NetworkOptions(Section):
    """The network and its exits: conv_params to use_counts are for ParticleNet, network_options for all."""

    plugins: list[str] = Field(
        default_factory=list,
        strict=False,
        description="Python files that register heads, links, losses, scores or networks of your own",
    )
    model_name: ModelName = Field("ParticleNet", description="the network; each one has a file in network_configs")
    network_config: str | None = Field(
        None,
        description="network file of weaver, with get_model; None: network_configs/<model_name>_JetClass.py, for "
        "several collections of particles network_configs/<model_name>Tagger_CMS.py",
    )
    network_options: dict[str, Any] = Field(
        default_factory=dict,
        description='more keywords of get_model, e.g. {"num_layers": 4, "version": 2} for ParticleTransformer',
    )
    num_classes: PositiveInt | None = Field(None, description="number of classes; None: that of the data_config")
    num_exit_points: NonNegativeInt | None = Field(
        None, description="number of exits, placed after the first stages; None: one after each stage"
    )
    exit_stages: list[ExitStage] | None = Field(
        None, strict=False, description='stages with an exit, e.g. ["input", 0, 2]; overrides num_exit_points'
    )
    exit_head: str | HeadNames = Field(
        "deep_sets",
        description="exit head, or a list with one for each exit; linear: mean over the particles, one layer; "
        "linear_mean_max: mean and maximum, one layer; attention: weighted mean, layers; mlp: mean and maximum, "
        "layers; deep_sets: layers on each particle, mean and maximum, layers on both",
    )
    exit_head_width: PositiveInt = Field(64, description="channels of the hidden layers of exit heads")
    exit_head_depth: PositiveInt = Field(
        1, description="number of hidden layers in each part of an exit head that has layers"
    )
    exit_link: LinkName = Field(
        "independent",
        description="how the answer of an exit uses earlier exits; independent: not at all; cascade: each exit sees "
        "the logits of the exit before, and its answer is an ensemble (ZTW); boosted: each exit corrects the sum of "
        "the earlier ones; the regime boosted needs it, and sets it",
    )
    conv_params: list[ConvParams] = Field(
        [(16, (64, 64, 64)), (16, (128, 128, 128)), (16, (256, 256, 256))],
        strict=False,
        min_length=1,
        description="EdgeConv blocks: (nearest neighbours, at most 1,024, (channels, …))",
    )
    fc_params: list[FcParams] = Field(
        [(256, 0.1)],
        strict=False,
        min_length=1,
        description="hidden layers of the head of the full model: (channels, dropout)",
    )
    use_fusion: bool = Field(
        False, description="the head of the full model uses the outputs of all blocks, not only of the last"
    )
    use_fts_bn: bool = Field(True, description="BatchNorm on the input features, as in the published weights")
    use_counts: bool = Field(
        True,
        description="average over real particles only; False: also over padded slots, so that answers depend on the "
        "batch",
    )
    init_from: str | None = Field(None, description="checkpoint to start from, written by PHAZE-EE or by weaver")
    fresh_layers: list[str] = Field(
        default_factory=list,
        strict=False,
        description='layers that start with fresh weights, not with those of init_from, e.g. ["mod.fc"], the head, '
        "where the classes are others; by their names in the checkpoint",
    )

    @property
    def network_file(self) -> str:
        """The network file for one collection of particles, as a path to look up."""
        return self.network_file_for(1)

    def network_file_for(self, collections: int) -> str:
        """Return the network file, as a path to look up. A network of the user has the file that registers it.

        Args:
            collections: the number of collections of particles in the data configuration.
        """
        registered = REGISTERED["model_name"].get(self.model_name)
        own = None if registered is None or registered.file is None else registered.file.path
        several = collections > 1 and self.model_name in _FOR_SEVERAL_COLLECTIONS
        default = f"{self.model_name}Tagger_CMS" if several else f"{self.model_name}_JetClass"
        return self.network_config or own or f"network_configs/{default}.py"

    def stages_with_exit(self, stage_count: int) -> list[int | Literal["input"]]:
        """Return the stages after which an exit sits, in a network with ``stage_count`` stages."""
        if self.exit_stages is not None:
            return list(self.exit_stages)
        return list(range(stage_count if self.num_exit_points is None else self.num_exit_points))

    @property
    def exit_count(self) -> int | None:
        """The number of exits, without the full model; None if it depends on the network."""
        if self.exit_stages is None and self.num_exit_points is None and self.model_name != "ParticleNet":
            return None
        return len(self.stages_with_exit(len(self.conv_params)))


_PRIOR_TOLERANCE = 1e-6


class CalibrationOptions(Section):
    """Where jets leave: mode calibrate chooses it, and its flags override these options."""

    calibration_files: list[str] = Field(
        default_factory=list,
        strict=False,
        description="files that calibrate reads; use none of train_files or test_files; empty: the validation jets "
        "that calibration_share reserves",
    )
    calibration_share: Fraction = Field(
        0.5, description="share of the validation jets that only calibrate uses, if calibration_files is empty"
    )
    exit_target: Literal["accuracy_drop", "net_accuracy_drop", "agreement", "signal_efficiency", "budget"] = Field(
        "accuracy_drop",
        description="what is limited; accuracy_drop: correct answers that become wrong; net_accuracy_drop: these "
        "less wrong answers that become correct; agreement: answers that change (needs no labels); signal_efficiency: "
        "signal jets lost at a working point; budget: the mean cost, at the best accuracy",
    )
    epsilon: OpenFraction = Field(0.01, description="largest probability of the loss that exit_target counts")
    delta: OpenFraction = Field(0.05, description="probability that the promise is broken")
    risk_control: Literal["ltt", "crc"] = Field(
        "ltt", description="ltt: risk below epsilon with confidence 1 - delta; crc: expected risk below epsilon"
    )
    exit_score: ScoreName | None = Field(
        None, description="score that decides where jets leave; None: window for signal_efficiency, else confidence"
    )
    signal: str | None = Field(None, description="signal_efficiency: the signal class; the background is c.background")
    signal_efficiency: OpenFraction = Field(
        0.5, description="signal_efficiency: the working point, as the signal efficiency of the full model"
    )
    background_growth: PositiveFloat = Field(
        0.05, description="signal_efficiency, two_sided: largest relative increase of the accepted background"
    )
    exit_form: Literal["reject", "two_sided"] = Field(
        "reject", description="signal_efficiency; reject: jets leave below the cut only; two_sided: on both sides"
    )
    cost_budget: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="budget: mean cost, as a fraction of the MACs of the full model"
    )
    class_prior: dict[str, NonNegativeFloat] | None = Field(
        None,
        description="class fractions for which costs are minimised and reported, e.g. those of a trigger: "
        '{"label_QCD": 0.999, "label_Hbb": 0.001}; None: as in the files',
    )
    promise_per_class: bool = Field(False, description="the promise holds in each true class as well")
    promise_bins: Bins = Field(
        default_factory=dict,
        description="the promise holds in each of these bins as well, by observable; jet_nparticles is always there, "
        'others are branches of the files: {"jet_pt": [500, 600, 800]}',
    )
    promise_leaving: bool = Field(False, description="epsilon is for the jets that leave early, among these alone")
    fit_temperatures: bool = Field(
        True, description="divide the logits of each exit by a temperature, so that scores of different exits compare"
    )

    @model_validator(mode="after")
    def _prior_has_weight(self) -> Self:
        if self.class_prior is not None and abs(sum(self.class_prior.values()) - 1) > _PRIOR_TOLERANCE:
            raise ValueError(f"the shares of class_prior add up to {sum(self.class_prior.values()):g}; make them 1")
        return self


# strict=False: a tuple, or one number, is accepted in place of a list.
Weights = Annotated[
    list[NonNegativeFloat], Field(strict=False), BeforeValidator(lambda value: [value] if _is_number(value) else value)
]


class ExitOptions(Section):
    """How the exits are trained: total loss = CE(full model) + sum over exits of beta × exit loss."""

    exit_loss_strategy: ExitLossStrategy = Field(
        "distill_detached",
        description="loss of each exit; mimic: mean squared difference to the logits of the full model; target: "
        "cross-entropy; distill: cross-entropy and KL divergence to the full model; reject: for a cascade, by the "
        "signal and target of calibrate. detached: only the exits learn from it; flow: the network learns from it too",
    )
    distill_weight: Share = Field(0.5, description="distill: weight of the divergence; the cross-entropy has the rest")
    distill_temperature: PositiveFloat = Field(
        1.0, description="distill: temperature of the divergence; higher: softer answers"
    )
    training_regime: Literal["ramp", "joint", "mixed", "disjoint", "boosted"] = Field(
        "ramp",
        description="what learns when; ramp: beta rises after zero_epochs, see beta_schedule; joint: network and "
        "exits from the first epoch; mixed: the network alone for zero_epochs, then both; disjoint: the network alone "
        "for zero_epochs, then the exits alone, each phase with its own learning-rate schedule; boosted: as joint, "
        "with the exits as one boosted ensemble (sets exit_link and target_flow). Except for ramp, beta is always at "
        "its maximum",
    )
    freeze_backbone: bool = Field(
        False, description="only the exits learn; the full model stays as in init_from, bit for bit"
    )
    beta_max: Weights = Field(
        [0.3, 0.5, 1.0],
        description="weight of the loss of each exit at the end of the training: one number per exit, or one for all",
    )
    regression_loss_weight: PositiveFloat = Field(
        1.0,
        description="weight of the loss of labels.targets (log cosh of the standardised difference) beside those of "
        "full model and exits; without targets it has no effect",
    )
    beta_schedule: Literal["linear", "cosine", "switch"] = Field(
        "linear",
        description="how beta rises after zero_epochs; switch: at once. switch is the default with freeze_backbone, "
        "and the only choice of every training_regime except ramp",
    )
    zero_epochs: NonNegativeInt = Field(
        10,
        description="number of first epochs with beta = 0. If not set: a fifth of the epochs, at most 10; half of the "
        "epochs in the regimes mixed and disjoint. It must be 0 with freeze_backbone and in the regimes joint and "
        "boosted",
    )

    @property
    def ends_frozen(self) -> bool:
        """Whether the backbone is frozen at the end of the training."""
        return self.freeze_backbone or self.training_regime == "disjoint"

    def weights(self, exit_count: int) -> tuple[float, ...]:
        """Return beta_max for each of ``exit_count`` exits.

        Raises:
            UsageError: it does not have one number per exit.
        """
        count = len(self.beta_max)
        if count not in (1, exit_count):
            subject = "beta_max" if "beta_max" in self.model_fields_set else "beta_max is not set, and its default"
            raise UsageError(
                f"{subject} has {count} numbers for {exit_count} exits; give one number per exit, or one for all"
            )
        return tuple(self.beta_max) * (exit_count if count == 1 else 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class HardwareOptions(Section):
    """Processes, precision and device."""

    num_workers: NonNegativeInt = Field(4, description="number of processes that read data; 0: the main process reads")
    use_amp: bool = Field(True, description="mixed precision on CUDA; off on the CPU, with a note")
    amp_dtype: Literal["fp16", "bf16"] = Field(
        "fp16", description="precision of use_amp; bf16 needs a GPU that supports it, and no scaling of the loss"
    )
    use_ddp: bool = Field(False, description="one process per GPU, started by torchrun")
    use_packed: bool = Field(
        True,
        description="train without padding if the network can: faster, with the same results up to rounding. On CUDA "
        "it needs Triton and a card of compute capability 8.0 or later (A100, L4, RTX 30 and newer)",
    )
    use_compile: bool = Field(
        False,
        description="torch.compile the stages of a network that trains with padding. The first steps take minutes; "
        "benchmarks/gpu.py measures the gain. No effect where use_packed has an effect, with a note",
    )
    pin_memory: bool = Field(
        True,
        description="on CUDA, a thread makes the next batch, and copies it to the GPU from page-locked memory, while "
        "the GPU works on this one; no effect on the CPU",
    )
    feature_cache_gb: NonNegativeFloat = Field(
        20.0,
        description="with freeze_backbone: disk space in GB for the frozen features, which are computed once. If they "
        "need more, they are computed in every epoch. The space is free again after the training",
    )
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="auto: CUDA, if there is a CUDA device")
    precision: Precision = Field(
        "float32",
        description="operands of products on CUDA in calibrate, evaluate, predict, benchmark and place; sums are in "
        "float32. A policy holds in the precision that it was calibrated in. The CPU has float32 only. Training: "
        "see use_amp",
    )


class TrainingOptions(Section):
    """Epochs, optimiser and learning rate."""

    epochs: PositiveInt = Field(50, description="number of passes over the training files")
    lr: LearningRate = Field(0.002, description="highest learning rate")
    batch_size: PositiveInt = Field(512, description="jets per batch, in each process")
    optimizer: Literal["ranger", "adamw", "adam"] = Field(
        "ranger", description="ranger: RAdam with Lookahead, the default of weaver"
    )
    lr_schedule: Literal[
        "flat_decay", "flat_linear", "flat_cosine", "warm_up_cosine", "cosine", "one_cycle", "steps", "none"
    ] = Field(
        "flat_decay",
        description="learning rate over the steps; flat_*: flat for 70 %, then decay: exponential to 1 %, a line to "
        "0.1 %, or half a cosine to 0.1 %; steps: divided by ten after each third; flat_linear, flat_cosine and "
        "warm_up_cosine begin with warm_up",
    )
    warm_up: NonNegativeFloat = Field(
        0.25, description="steps in which the learning rate rises from 0, or their share of all steps if below 1"
    )
    lr_factors: dict[str, NonNegativeFloat] = Field(
        default_factory=dict,
        description='learning rate of layers relative to lr, e.g. {"mod.fc": 50, "heads": 50}, the head of the network '
        "and those of the exits; by their names in a checkpoint; 0: frozen, but for statistics of BatchNorm",
    )
    weight_decay: float = Field(  # times any learning rate, it is a number in single precision
        0.01, ge=0, le=1e8, description="weight decay, decoupled (adam: in the gradient), without biases and BatchNorm"
    )
    gradient_clip: NonNegativeFloat = Field(1.0, description="largest norm of the gradient; 0: no clipping")
    accumulate_batches: PositiveInt = Field(
        1, description="number of batches whose mean gradient makes one step; the last step of an epoch may have fewer"
    )
    steps_per_epoch: PositiveInt | None = Field(
        None,
        description="number of batches in an epoch; the next epoch continues where the last one ends; None: all jets "
        "once",
    )
    samples_per_epoch: PositiveInt | None = Field(
        None, description="the same as a number of jets, over all processes, rounded up to whole batches"
    )
    early_stopping: NonNegativeInt = Field(
        0, description="stop at the first validation this many epochs after the best, while exits learn; 0: never"
    )
    ema_decay: Fraction = Field(
        0.0,
        description="decay of the exponential moving average of the weights, e.g. 0.999; the average is validated and "
        "kept; 0: no average",
    )
    skip_nan_batches: NonNegativeInt = Field(
        0, description="skip up to this many batches with a non-finite loss, then stop; for one process"
    )
    seed: NonNegativeInt | None = Field(
        None, description="random seed; None: drawn. A run repeats bit for bit on a like CPU with as many threads"
    )
    seeds: Annotated[int, Field(ge=2, le=1000)] | None = Field(None, description="N trainings, from c.seed (else 0) on")

    @model_validator(mode="after")
    def _one_length_of_an_epoch(self) -> Self:
        if self.steps_per_epoch is not None and self.samples_per_epoch is not None:
            raise ValueError("steps_per_epoch and samples_per_epoch both say how long an epoch is; remove one")
        return self
