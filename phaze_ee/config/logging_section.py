"""The options of what a training writes."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from phaze_ee.config.sections import Section


class LoggingOptions(Section):
    """What a training writes."""

    log_interval: PositiveInt = Field(100, description="number of batches between two log entries")
    val_interval: PositiveInt = Field(
        1, description="number of epochs between two validations; the last epoch is always validated"
    )
    save_interval: PositiveInt = Field(5, description="number of epochs between two checkpoints that are kept")
    resume_interval: NonNegativeInt = Field(
        500,
        description="number of batches between two saved states, from which an interrupted training continues; 0: "
        "only after each epoch",
    )
    logger: Literal["tensorboard", "csv", "wandb", "mlflow", "comet"] | None = Field(
        "tensorboard",
        description="where losses, accuracies, learning rate, β and options of a training go; csv: output/logs/csv; "
        "mlflow: $MLFLOW_TRACKING_URI, else output/logs/mlruns; wandb, comet: as their own settings say, e.g. offline; "
        "these three need an extra of that name; None: nowhere",
    )
    tensorboard: bool = Field(
        True, description="write TensorBoard logs to output/logs/train; False: as logger = None, for that logger"
    )
