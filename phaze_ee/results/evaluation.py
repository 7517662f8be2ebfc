"""Results of mode evaluate: how well each exit performs."""

from pydantic import Field

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


class ExitEvaluation(Record):
    """How one exit performs on a data set. ``confusion_matrix[true][predicted]`` counts jets; ``loss`` is in nats."""

    accuracy: float
    accuracy_error: float
    roc_auc: float | None
    loss: float
    expected_calibration_error: float
    confusion_matrix: list[list[int]]
    rejections: list[Rejection]
    roc_curves: list[RocCurve]


class EvaluationResults(ExitResultsFile[ExitEvaluation]):
    """``evaluation_results.json``. Exits are in the order of the network, the full model last.

    ``model_hash`` is the SHA-256 of the file with the weights; None for a network with random weights. Results with the
    same hash are of the same model.
    """

    project: str
    model: str
    model_hash: str | None = None
    classes: list[str]
    jets: int
    jets_per_class: dict[str, int]
    files: list[str]
    notes: list[str] = Field(default_factory=list)
