"""``exit_policy.json``: a policy, the model it belongs to, what it promises, and how that was shown."""

from pathlib import Path
from typing import Literal, Self

from phaze_ee.errors import UsageError
from phaze_ee.exits.calibrate import TestedRisk
from phaze_ee.exits.drift import DriftReference
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import AnyExitScore
from phaze_ee.exits.targets import AnyTarget
from phaze_ee.results.base import Record, ResultsFile


class CostCurve(Record):
    """Policies of one score by ascending mean cost; no promise goes with them."""

    score: AnyExitScore
    thresholds: list[list[float]]


class CalibrationSample(Record):
    """The jets that the policy rests on: ``shaping`` shaped it, ``testing`` tested it; ``seed`` decided which."""

    files: list[str]
    held_out_of_validation: bool
    jets: int
    shaping: int
    testing: int
    seed: int
    jets_per_class: dict[str, int] | None


class Guarantee(Record):
    """What is promised. ``holds`` is False where the policy is the full model, or the target promises nothing."""

    method: Literal["ltt", "crc", "none"]
    delta: float
    holds: bool
    statement: str
    risks: list[TestedRisk]


class MixFigures(Record):
    """Mean cost and accuracy on the jets that tested the policy, for one mix of classes; errors are one σ.

    ``class_shares`` is None for the mix of the files. Costs are multiply-accumulates per jet.
    """

    class_shares: dict[str, float] | None
    macs: float
    full_macs: float
    cost_share: float
    cost_share_error: float
    accuracy: float | None
    accuracy_error: float | None
    full_accuracy: float | None
    exit_shares: dict[str, float]


class ExitPolicyFile(ResultsFile):
    """``exit_policy.json``. ``thresholds`` has one number per exit, ``temperatures`` one more for the full model."""

    project: str
    model: str
    model_hash: str | None
    classes: list[str]
    exit_names: list[str]
    score: AnyExitScore
    thresholds: list[float]
    temperatures: list[float] | None
    target: AnyTarget
    guarantee: Guarantee
    calibration: CalibrationSample
    realised: dict[Literal["files", "prior"], MixFigures]
    curves: list[CostCurve]
    reference: DriftReference
    notes: list[str]

    def policy(self) -> ThresholdPolicy:
        """Return the policy."""
        return ThresholdPolicy(self.score, self.thresholds, self.temperatures)

    @classmethod
    def load(cls, path: Path, model_hash: str | None) -> Self:
        """Read a policy for the model of that hash.

        Raises:
            UsageError: there is no such file, it is not a policy, or it belongs to another model.
        """
        file = cls.read(path, made_by="calibrate")
        if file.model_hash != model_hash:
            raise UsageError(
                f"{path} was calibrated for another model, or for {file.model} before it was trained anew; its promise "
                "does not hold for this one: run mode 'calibrate' again"
            )
        return file
