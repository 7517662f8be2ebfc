"""What a run uses of the machine."""

from typing import Literal

from pydantic import Field, NonNegativeInt

from phaze_ee.config.sections.base import Section


class HardwareOptions(Section):
    """What the run uses of the machine."""

    num_workers: NonNegativeInt = Field(4, description="processes that read data; 0: the main process reads")
    use_amp: bool = Field(True, description="mixed precision (fp16) on CUDA; on CPU it is off, with a notice")
    use_ddp: bool = Field(False, description="one process per GPU, started by torchrun")
    use_packed: bool = Field(
        True, description="on CPU, train without padding where the network can: same numbers but for rounding, faster"
    )
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="auto: CUDA where there is one")
