"""Typed results, written as JSON in whole or not at all."""

import re
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from phaze_ee.atomic import replacing
from phaze_ee.errors import UsageError

SCHEMA_VERSION: Literal[1] = 1
_EXIT_KEY = re.compile(r"exit_\d+|full_model")


class Record(BaseModel):
    """Base of everything that a results file holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=True, ser_json_inf_nan="constants")


RecordT = TypeVar("RecordT", bound=Record)


class ResultsFile(Record):
    """A results file."""

    schema_version: Literal[1] = SCHEMA_VERSION

    def write(self, path: Path) -> None:
        """Write the file, replacing an older one only when the new one is complete."""
        with replacing(path) as temporary:
            temporary.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path, made_by: str) -> Self:
        """Read a file back.

        Raises:
            UsageError: it is not there yet, or is not a results file of this version.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise UsageError(f"{path} does not exist yet; run mode {made_by!r} first") from error
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UsageError(
                f"{path} is not a results file of this version ({where}: {first['msg']}); run mode {made_by!r} again"
            ) from error


class ExitResultsFile(ResultsFile, Generic[RecordT]):
    """A results file with one record per exit; in JSON the records stand at the top level under the exits' names."""

    exits: dict[str, RecordT]

    @model_serializer(mode="wrap")
    def _flatten(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        return {**data.pop("exits"), **data}

    @model_validator(mode="before")
    @classmethod
    def _collect(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "exits" in data:
            return data
        exits = {name: value for name, value in data.items() if _EXIT_KEY.fullmatch(name)}
        return {**{name: value for name, value in data.items() if name not in exits}, "exits": exits}


class Rejection(Record):
    """Background rejection 1 / (background efficiency) at a signal efficiency.

    ``value`` is None where no background jet passes the cut (then ``lower_limit`` says what the sample can exclude at
    68 % confidence), or where one of the classes has no jets. ``error`` is the binomial standard error.
    """

    signal: str
    background: str
    signal_efficiency: float
    value: float | None
    error: float | None
    lower_limit: float | None = None


class RocCurve(Record):
    """Signal efficiency against background efficiency, thinned for drawing."""

    signal: str
    background: str
    signal_efficiency: list[float]
    background_efficiency: list[float]


class ExitEvaluation(Record):
    """How one exit does on a data set. ``confusion_matrix[true][predicted]`` counts jets."""

    accuracy: float
    accuracy_error: float
    roc_auc: float | None
    loss: float
    expected_calibration_error: float
    confusion_matrix: list[list[int]]
    rejections: list[Rejection]
    roc_curves: list[RocCurve]


class EvaluationResults(ExitResultsFile[ExitEvaluation]):
    """``evaluation_results.json``. Exits come in the order of the network, the full model last.

    ``model_hash`` is the SHA-256 of the file with the weights, None for a network with random weights: two results
    belong to the same model where it is the same.
    """

    project: str
    model: str
    model_hash: str | None = None
    classes: list[str]
    jets: int
    jets_per_class: dict[str, int]
    files: list[str]
    notes: list[str] = []


class ExitBenchmark(Record):
    """What it costs to leave at one exit, heads visited on the way included.

    ``flops`` are multiply-accumulates (MACs) by weaver's counter, the key and unit of the contract; ``macs`` are exact
    multiply-accumulates of matrix products, the neighbour search included. Both for one jet of ``particles`` particles,
    as are ``head_macs``, those of the exit branch alone (None: not recorded, or the full model).
    """

    flops: int
    flops_str: str
    params: int
    params_str: str
    macs: int
    head_macs: int | None = None
    share_of_full: float
    accuracy: float | None
    roc_auc: float | None


class ExitLatency(Record):
    """Times when all jets leave at one exit: wall time of a batch divided by its number of jets, in milliseconds.

    ``mean_macs`` are the multiply-accumulates per jet as really spent, with each jet's own number of particles.
    """

    name: str
    batch_size: int
    batches: int
    jets_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_macs: float


class PolicyLatency(ExitLatency):
    """Times when a policy chooses the exits.

    ``exit_fractions`` are the shares of the timed jets that left at each exit, the full model last.
    """

    score: str
    thresholds: list[float]
    exit_fractions: list[float]


class LatencyReport(Record):
    """Times of all exits at all batch sizes, and the conditions under which they were taken.

    ``chosen`` are those of the project's policy, at all batch sizes too; ``curves`` those of some policies of its
    cost-accuracy curves, at the largest.
    """

    threads: int
    device: str
    dtype: str
    mean_multiplicity: float
    entries: list[ExitLatency]
    chosen: list[PolicyLatency] = []
    curves: list[PolicyLatency] = []


class BenchmarkResults(ExitResultsFile[ExitBenchmark]):
    """``benchmark_results.json``. ``model_hash`` as in :class:`EvaluationResults`."""

    project: str
    model: str
    model_hash: str | None = None
    particles: int
    input_channels: int
    unit: str
    latency: LatencyReport | None = None
    notes: list[str] = []


class EpochRecord(Record):
    """One epoch of training: per-exit lists hold the exits first and the full model last, ``beta`` the exits only."""

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
    """``training_history.json``: the curves of a training. ``train_loss`` of an exit is its exit loss."""

    project: str
    exit_names: list[str]
    exit_loss_strategy: str
    epochs: list[EpochRecord]


class LearningRateSearch(ResultsFile):
    """``find_lr.json``: the total loss of training steps, smoothed, while the learning rate rises step by step.

    ``suggestion`` is the rate at which the loss falls fastest. A loss that is not finite is None.
    """

    project: str
    lr: list[float]
    loss: list[float | None]
    suggestion: float
