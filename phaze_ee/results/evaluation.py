"""Results of mode evaluate: how well each exit does."""

from pydantic import Field

from phaze_ee.results.base import ExitResultsFile, Record


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
    notes: list[str] = Field(default_factory=list)
