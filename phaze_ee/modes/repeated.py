"""How often calibrations of a model have tested policies on the same jets. Each promise is for one of them alone."""

import dataclasses
import hashlib
import json

from pydantic import Field

from phaze_ee.errors import UsageError
from phaze_ee.exits.calibrate import Settings
from phaze_ee.exits.targets import Budget
from phaze_ee.names import short
from phaze_ee.results.base import Provenance, Record, ResultsFile
from phaze_ee.workspace import Project


class CalibrationRun(Record):
    """A calibration: the model, what selects its jets, the hash of its settings, and the probability δ.

    ``delta`` is None for a promise about the expected risk.
    """

    model_hash: str | None
    rows_hash: str | None
    settings: str
    delta: float | None


class CalibrationRuns(ResultsFile):
    """``calibrations.json``: all calibrations of a project with a promise, each once, also those that failed."""

    runs: list[CalibrationRun] = Field(default_factory=list)


def note_calibration(project: Project, settings: Settings, provenance: Provenance) -> list[str]:
    """Add a calibration to the list of the project, and return a note if others have tested on the same jets.

    Of m valid calibrations, the probability that any promise is broken is at most the sum of their δ.

    Raises:
        UsageError: the list is damaged.
        RunError: it cannot be written.
    """
    if isinstance(settings.target, Budget):
        return []
    path = project.results / "calibrations.json"
    try:
        before = CalibrationRuns.read(path, made_by="calibrate") if path.is_file() else CalibrationRuns()
    except UsageError as error:
        raise UsageError(f"{path} is damaged; move it away (earlier calibrations are not counted then)") from error
    run = _run(settings, provenance)
    same = [one for one in before.runs if (one.model_hash, one.rows_hash) == (run.model_hash, run.rows_hash)]
    if run not in same:
        CalibrationRuns(runs=[*before.runs, run]).write(path)
        same.append(run)
    return _said(same)


def _run(settings: Settings, provenance: Provenance) -> CalibrationRun:
    plain = {**dataclasses.asdict(settings), "target": settings.target.model_dump()}
    plain |= {"conditions": settings.conditions.model_dump(), "class_prior": dict(settings.class_prior or {})}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    delta = settings.delta if settings.method == "ltt" else None
    return CalibrationRun(
        model_hash=provenance.model_hash, rows_hash=provenance.rows_hash, settings=digest, delta=delta
    )


def _said(same: list[CalibrationRun]) -> list[str]:
    if len(same) < 2:
        return []
    deltas = [run.delta for run in same if run.delta is not None]
    left = round(1 - sum(deltas), 4) if len(deltas) == len(same) else None
    confidence = "promises less" if left is None else f"has a confidence of {short(max(left, 0.0))}"
    return [
        f"{len(same)} calibrations with different settings have tested policies on these jets. The promise is for each "
        f"alone: a policy that is chosen among them by its result {confidence}"
    ]
