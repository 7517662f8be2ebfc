"""The network and where its exits sit."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from phaze_ee.config.sections.base import Fraction, Section

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
