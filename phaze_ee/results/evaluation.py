"""Results of mode evaluate: how well each exit performs."""

from pydantic import Field

from phaze_ee.machine import Precision
from phaze_ee.results.base import ExitResultsFile, Record


class Rejection(Record):
    """Background rejection 1 / (background efficiency) at a signal efficiency.

    ``error`` is the binomial standard error. ``value`` is None if one of the classes has no jets, or if no background
    jet passes the cut; ``lower_limit`` is then the lower limit at 68 % confidence.
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


class TargetEvaluation(Record):
    """How close predictions come to a target of a regression, in the units of the target.

    ``bias`` is the median of prediction - target, ``resolution`` half of the span from its 16 % to its 84 % quantile.
    ``response`` and ``response_resolution`` are the same for prediction / target; None unless all targets are positive.
    ``target_spread`` is half of that span of the target itself. Errors are standard errors from order statistics.
    """

    jets: int
    target_spread: float
    bias: float
    bias_error: float
    resolution: float
    resolution_error: float
    response: float | None
    response_error: float | None
    response_resolution: float | None
    response_resolution_error: float | None


class ConfidenceBin(Record):
    """Jets of about the same confidence, the probability of the assigned class.

    ``confidence`` is its mean, ``accuracy`` the share of correct jets.
    """

    jets: int
    confidence: float
    accuracy: float


class ExitEvaluation(Record):
    """How one exit performs on a data set. ``confusion_matrix[true][predicted]`` counts jets.

    ``loss`` is the mean cross-entropy in nats. It and ``expected_calibration_error`` are those of the logits without
    temperatures. ``mean_macs`` are multiply-accumulates per jet, each with its own number of particles, if all jets
    leave here and this head alone is evaluated. ``macs_share`` is their ratio to the full model without heads. Both are
    None in files of version 0.1, in which ``confidence_bins`` is empty. ``targets`` are those of a regression; None:
    there are none. ``right_only_here`` counts jets that are right here and wrong in the full model,
    ``right_only_in_full`` the opposite; ``right_jets`` says which jets are right, one bit each
    (:func:`phaze_ee.paired.pack_bits`). They are None in older files and in means over seeds.
    """

    accuracy: float
    accuracy_error: float
    roc_auc: float | None
    loss: float
    expected_calibration_error: float
    confidence_bins: list[ConfidenceBin] = Field(default_factory=list)
    confusion_matrix: list[list[int]]
    rejections: list[Rejection]
    roc_curves: list[RocCurve]
    mean_macs: float | None = None
    macs_share: float | None = None
    targets: dict[str, TargetEvaluation] | None = None
    right_only_here: int | None = None
    right_only_in_full: int | None = None
    right_jets: str | None = None


class EvaluationResults(ExitResultsFile[ExitEvaluation]):
    """``evaluation_results.json``. Exits are in the order of the network, the full model last.

    ``precision`` is that of the products of the network. ``jets_hash`` is equal for two projects that were evaluated on
    the same jets in the same order, whatever their networks read of them. Both are None in older files.
    """

    project: str
    model: str
    classes: list[str]
    jets: int
    jets_per_class: dict[str, int]
    files: list[str]
    notes: list[str] = Field(default_factory=list)
    precision: Precision | None = None
    jets_hash: str | None = None
