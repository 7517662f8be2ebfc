"""What is written while training."""

from pydantic import Field, NonNegativeInt, PositiveInt

from phaze_ee.config.sections.base import Section


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
