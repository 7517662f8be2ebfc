"""``monitor.json``: what the audits of files of predictions, as they came, say about the promise of a policy."""

import math
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from phaze_ee.errors import UsageError
from phaze_ee.exits.sequence import SeenLosses
from phaze_ee.prediction.columns import column_stems
from phaze_ee.prediction.writers import WRITERS, InputFile, Manifest, check_columns, read_column, read_manifest
from phaze_ee.results.base import Record, ResultsFile

Verdict = Literal["kept so far", "broken", "not known yet"]


class WatchedFile(Record):
    """A file of jets that was predicted with an audit, and its jets with another class than from the full model."""

    input: InputFile
    losses: SeenLosses


class MonitorResults(ResultsFile):
    """``monitor.json``. All else follows from the files, in the order in which they came.

    Attributes:
        model: the hash of the weights.
        policy: the hash of the policy.
        rate: the rate of the audits.
        epsilon: the limit of the risk.
        delta: the probability of a false alarm, at all looks together.
        exact: whether the share of other classes is the promised risk; False: it is never smaller.
        files: the files.
    """

    model: str | None
    policy: str | None
    rate: float
    epsilon: float
    delta: float
    exact: bool
    files: list[WatchedFile] = Field(default_factory=list)

    @property
    def totals(self) -> list[SeenLosses]:
        """The losses after each file."""
        return list(accumulate(file.losses for file in self.files))

    @property
    def verdict(self) -> Verdict:
        """What the files so far say. Once broken, a promise stays broken."""
        seen, known = self.totals, math.log(1 / self.delta)
        if self.exact and any(losses.log_capital_above(self.epsilon) >= known for losses in seen):
            return "broken"
        return "kept so far" if seen and seen[-1].log_capital_below(self.epsilon) >= known else "not known yet"

    def having(self, path: Path, classes: list[str]) -> "MonitorResults":
        """Return the results with a file of predictions; the same if the predictions of its jets were seen before.

        Raises:
            UsageError: it has no audit, or one with another rate; it is of another model or policy; or it is damaged.
        """
        manifest = read_audited(path)
        for name, ours in (("model", self.model), ("policy", self.policy)):
            if getattr(manifest.recipe, name) != ours:
                raise UsageError(f"{path} was predicted with another {name}; leave it out, or predict its jets again")
        assert manifest.recipe.audit is not None
        if manifest.recipe.audit.rate != self.rate:
            raise UsageError(
                f"{path} was audited at a rate of {manifest.recipe.audit.rate:g}, the files before at {self.rate:g}; "
                "watch it with another --output"
            )
        if any(file.input == manifest.input for file in self.files):
            return self
        check_columns(path, manifest)
        file = WatchedFile(input=manifest.input, losses=_losses(path, manifest, self.rate, classes))
        return self.model_copy(update={"files": [*self.files, file]})


def read_audited(path: Path) -> Manifest:
    """Return the manifest of predictions with an audit.

    Raises:
        UsageError: there is no such file, it is not one of mode predict, or it has no audit.
    """
    if path.suffix.removeprefix(".") not in WRITERS:
        raise UsageError(f"{path} is not a file of predictions; give files that mode predict wrote")
    try:
        manifest = read_manifest(path)
    except UsageError as error:
        raise UsageError(f"{path} was not written by mode predict of this version; give files that it wrote") from error
    if manifest.recipe.audit is None:
        raise UsageError(f"{path} has no audit; predict its jets with --audit RATE")
    return manifest


def _losses(path: Path, manifest: Manifest, rate: float, classes: list[str]) -> SeenLosses:
    stems = column_stems(classes).values()
    weight_N = read_column(path, "audit_weight").astype(np.float64)
    own_NK, full_NK = (
        np.stack([read_column(path, f"{prefix}_{stem}") for stem in stems], axis=1)
        for prefix in ("score", "audit_score")
    )
    seen_N = weight_N > 0
    lost_N = seen_N & (own_NK.argmax(axis=1) != full_NK.argmax(axis=1))
    drawn_N = seen_N & (weight_N != 1) if rate < 1 else seen_N
    return SeenLosses(
        rate=rate,
        jets=manifest.jets,
        certain=int((seen_N & ~drawn_N).sum()),
        certain_lost=int((lost_N & ~drawn_N).sum()),
        drawn=int(drawn_N.sum()),
        drawn_lost=int((lost_N & drawn_N).sum()),
    )
