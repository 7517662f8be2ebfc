"""Results of a training and of a learning-rate search."""

from phaze_ee.names import CROSS_ENTROPY
from phaze_ee.results.base import Record, ResultsFile


class EpochRecord(Record):
    """One epoch of training. Lists have one entry per exit, the full model last; ``beta`` is of the exits alone."""

    epoch: int
    learning_rate: float
    beta: list[float]
    train_total_loss: float
    train_loss: list[float]
    train_accuracy: list[float]
    val_loss: list[float] | None = None
    val_accuracy: list[float] | None = None
    jets_per_second: float


class TrainingHistory(ResultsFile):
    """``training_history.json``: the curves of a training. ``train_loss`` of an exit is its exit loss.

    ``exit_loss`` says in words what that is; None in files of version 0.1. ``full_loss`` is the loss of the full model;
    older files, which lack it, have the cross-entropy.
    """

    project: str
    exit_names: list[str]
    exit_loss_strategy: str
    exit_loss: str | None = None
    full_loss: str = CROSS_ENTROPY
    epochs: list[EpochRecord]


class LearningRateSearch(ResultsFile):
    """``find_lr.json``: the smoothed total loss of training steps while the learning rate rises.

    ``suggestion`` is the rate at which the loss falls fastest. A non-finite loss is None.
    """

    project: str
    lr: list[float]
    loss: list[float | None]
    suggestion: float
