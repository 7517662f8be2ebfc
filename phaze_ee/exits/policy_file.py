"""``exit_policy.json``: a policy, the model it belongs to, its promise, and how the promise was tested."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from phaze_ee.errors import UsageError
from phaze_ee.exits.conditions import ALL_JETS, Conditions, Untested
from phaze_ee.exits.drift import DriftReference
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.safer import MovedFrom, SaferPolicy
from phaze_ee.exits.scores import AnyExitScore
from phaze_ee.exits.steps import PolicySequence
from phaze_ee.exits.targets import AnyTarget
from phaze_ee.exits.tested import TestedRisk
from phaze_ee.machine import Precision
from phaze_ee.names import quantity
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

    ``precision`` is that of the products of the network when the policy was calibrated. ``safer`` are the policies to
    which it can move, the fastest first and the full model last; those of older versions have none. With
    ``moved_from``, the policy is one of them. ``sequence`` are the policies that the calibration tested, the policy and
    the safer ones among them; None in older files. ``seal`` is a hash of all the rest, so that no promise outlives an
    edited threshold, nor a threshold an edited promise; None in older files.
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
    safer: list[SaferPolicy] = Field(default_factory=list)
    moved_from: MovedFrom | None = None
    sequence: PolicySequence | None = None
    seal: str | None = None

    def policy(self) -> ThresholdPolicy:
        """Return the policy."""
        return ThresholdPolicy(
            self.score,
            self.thresholds,
            self.temperatures,
            promise=self.guarantee.statement,
            precision=self.precision,
            model_hash=self.model_hash,
        )

    @property
    def decisions_hash(self) -> str:
        """The SHA-256 of what decides where jets leave: score, thresholds and temperatures."""
        text = self.model_dump_json(include={"score", "thresholds", "temperatures"})
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def step(self) -> int:
        """How many steps the policy has moved from the calibrated one."""
        return 0 if self.moved_from is None else self.moved_from.step

    @property
    def move(self) -> str | None:
        """In words, how far the policy has moved from the calibrated one, and what this means; None: it has not."""
        if self.moved_from is None or not self.step:
            return None
        last = self.step == len(self.safer)
        where = "the full model, which loses no jet" if last else "safer thresholds, which passed the same tests"
        return f"moved {self.step} of {quantity(len(self.safer), 'step')} from policy {self.moved_from.name} to {where}"

    @property
    def steps(self) -> list[str]:
        """The hashes of decisions of the calibrated policy and of all safer ones."""
        first = self.decisions_hash if self.moved_from is None else self.moved_from.decisions
        return [first, *(self._with(own).decisions_hash for own in self.safer)]

    def policy_at(self, step: int) -> ThresholdPolicy:
        """Return the policy after a number of steps, at least as many as this one has moved."""
        return (self if step == self.step else self._with(self.safer[step - 1])).policy()

    def moved(self, step: int, name: str) -> Self:
        """Return the policy that is a number of steps safer than the calibrated one, with that one's name.

        It has the promise of the calibrated one, whose statement then says how far it has moved, and its own tests and
        costs.
        """
        known = None if self.moved_from is None else self.moved_from.statement
        statement = known or self.guarantee.statement
        parent = MovedFrom(name=name, decisions=self.steps[0], step=step, statement=statement)
        file = self if step == self.step else self._with(self.safer[step - 1])
        moved = file.model_copy(update={"moved_from": parent})
        said = statement if moved.move is None else f"{statement}; {moved.move}"
        return moved.model_copy(update={"guarantee": file.guarantee.model_copy(update={"statement": said})})

    def _with(self, own: SaferPolicy) -> Self:
        guarantee = self.guarantee.model_copy(update={"risks": own.risks})
        changes = {"score": own.score, "thresholds": own.thresholds, "realised": own.realised, "guarantee": guarantee}
        return self.model_copy(update=changes)

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
            for own in self.safer:
                ThresholdPolicy(own.score, own.thresholds).check(exits)
            if self.sequence is not None:
                self.sequence.check(exits)
        except UsageError as error:
            raise ValueError(str(error)) from error
        if not 0 <= self.step <= len(self.safer):
            raise ValueError(f"moved by {self.step} steps, but there are {len(self.safer)} safer policies")
        return self

    def write(self, path: Path) -> None:
        seal = _seal_of(self.model_dump_json())
        super(ExitPolicyFile, self.model_copy(update={"seal": seal})).write(path)

    @classmethod
    def read_hashed(cls, path: Path, made_by: str) -> tuple[Self, str]:
        """Read the file as any results file.

        Raises:
            UsageError: so says that; or the content is not what was written.
        """
        file, digest = super().read_hashed(path, made_by)
        if file.seal not in (None, _seal_of(path.read_text(encoding="utf-8"))):
            raise UsageError(
                f"{path} was edited: it is not what mode {made_by!r} wrote, so nothing is promised; restore it, run "
                "mode 'calibrate' again, or try thresholds in Python (phaze_ee.ThresholdPolicy)"
            )
        return file, digest

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


def _seal_of(text: str) -> str:
    """Return a hash of the content of a policy file, however it is laid out and its numbers are written."""
    content = {name: value for name, value in json.loads(text).items() if name != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def steps_hash(steps: Sequence[str]) -> str:
    """Return one hash of the hashes of a calibrated policy and of all safer ones."""
    return hashlib.sha256("\n".join(steps).encode()).hexdigest()


@dataclass(frozen=True)
class KeptPolicy:
    """A policy of a project: its name, its file, and the hash of the file, which identifies it in results."""

    name: str
    path: Path
    file: ExitPolicyFile
    hash: str
