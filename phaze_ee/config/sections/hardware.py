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
