"""``exit_policy.json``: a policy, the model it belongs to, its promise, and how the promise was tested."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from phaze_ee.errors import UsageError
from phaze_ee.exits.conditions import ALL_JETS, Conditions, Untested
from phaze_ee.exits.drift import DriftReference
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import AnyExitScore
from phaze_ee.exits.targets import AnyTarget
from phaze_ee.exits.tested import TestedRisk
from phaze_ee.machine import Precision
from phaze_ee.results.base import Record, Traced
from phaze_ee.results.policy import RealisedFigures


class CostCurve(Record):
    """The thresholds of policies with one score, by rising mean cost. They promise nothing."""

    score: AnyExitScore
    thresholds: list[list[float]]


class CalibrationSample(Record):
    """The calibration jets. ``shaping`` of them shaped the policy, ``testing`` tested it; ``seed`` decided which.

    ``jets_per_class`` is None if a true class is unknown.
    """

    files: list[str]
    held_out_of_validation: bool
    jets: int
    shaping: int
    testing: int
    seed: int
    jets_per_class: dict[str, int] | None


class Guarantee(Record):
    """The promise, in words as ``statement``, at confidence 1 − ``delta``.

    ``holds`` is False if nothing passed, so that the policy is the full model, or if the target promises nothing.
    ``conditions`` are the parts of the jets for which it holds as well, without those in ``untested``, which had too
    few jets. ``multiplicity`` says how several tests keep one δ: in ``fixed_sequence`` policies are tested from the
    safest on, each must pass the tests of all parts, and the first that fails ends the sequence.
    """

    method: Literal["ltt", "crc", "none"]
    delta: float
    holds: bool
    statement: str
    risks: list[TestedRisk]
    multiplicity: Literal["fixed_sequence"] | None = None
    conditions: Conditions = ALL_JETS
    untested: list[Untested] = Field(default_factory=list)


class ExitPolicyFile(Traced):
    """``exit_policy.json``. ``thresholds`` has one number per exit, ``temperatures`` one more for the full model.

    ``precision`` is that of the products of the network when the policy was calibrated.
    """

    project: str
    model: str
    classes: list[str]
    exit_names: list[str]
    score: AnyExitScore
    thresholds: list[float]
    temperatures: list[float] | None
    target: AnyTarget
    guarantee: Guarantee
    calibration: CalibrationSample
    realised: dict[Literal["files", "prior"], RealisedFigures]
    curves: list[CostCurve]
    reference: DriftReference
    notes: list[str]
    precision: Precision = "float32"

    def policy(self) -> ThresholdPolicy:
        """Return the policy."""
        statement = self.guarantee.statement
        return ThresholdPolicy(
            self.score, self.thresholds, self.temperatures, promise=statement, precision=self.precision
        )

    @property
    def decisions_hash(self) -> str:
        """The SHA-256 of what decides where jets leave: score, thresholds and temperatures."""
        text = self.model_dump_json(include={"score", "thresholds", "temperatures"})
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def lets_jets_leave(self) -> bool:
        """Whether the policy offers any exit; False: it is the full model, because the calibration failed."""
        return bool(self.policy().exits)

    @model_validator(mode="after")
    def _check(self) -> Self:
        exits = len(self.exit_names) - 1
        try:
            self.policy().check(exits)
            for curve in self.curves:
                for thresholds in curve.thresholds:
                    ThresholdPolicy(curve.score, thresholds).check(exits)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return self

    @classmethod
    def load(cls, path: Path, model_hash: str | None) -> Self:
        """Read the policy of the model with this hash.

        Raises:
            UsageError: there is no such file, or it holds no policy, or that of another model.
        """
        file = cls.read(path, made_by="calibrate")
        file.check_model(model_hash, path)
        return file

    def check_model(self, model_hash: str | None, path: Path) -> None:
        """Check that the policy belongs to the model with this hash.

        Raises:
            UsageError: it does not; the message names ``path``.
        """
        if self.model_hash is None or self.model_hash != model_hash:
            raise UsageError(
                f"{path} was calibrated for another model, or for {self.model} before it was trained again; its "
                "promise does not hold for this one: run mode 'calibrate' again"
            )

    def check_precision(self, precision: Precision, path: Path) -> None:
        """Check that the policy was calibrated in this precision.

        Raises:
            UsageError: it was not; the message names ``path``.
        """
        if self.precision != precision:
            raise UsageError(
                f"{path} was calibrated with precision = {self.precision!r}, and its thresholds do not hold with "
                f"{precision!r}: set precision to {self.precision!r}, or run mode 'calibrate' again with {precision!r}"
            )


@dataclass(frozen=True)
class KeptPolicy:
    """A policy of a project: its name, its file, and the hash of the file, which identifies it in results."""

    name: str
    path: Path
    file: ExitPolicyFile
    hash: str
