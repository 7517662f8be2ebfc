"""What a run uses of the machine."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from phaze_ee.config.sections.base import Section


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
    feature_cache_gb: NonNegativeFloat = Field(
        20.0,
        description="with freeze_backbone: disk space in GB for the backbone's features, which are then computed once "
        "and not in every epoch; what needs more is computed in every epoch; gone when the training ends",
    )
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="auto: CUDA where there is one")
