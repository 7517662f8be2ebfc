"""``monitor.json``: what the audits of files of predictions, as they came, say about the promise of a policy."""

import math
from collections import defaultdict
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from phaze_ee.errors import UsageError
from phaze_ee.exits.sequence import SeenLosses
from phaze_ee.prediction.columns import column_stems
from phaze_ee.prediction.writers import WRITERS, InputFile, Manifest, check_columns, read_column, read_manifest
from phaze_ee.results.base import Record, ResultsFile
from phaze_ee.shapes import Bool, Float

Verdict = Literal["kept so far", "kept so far for the selection", "broken", "not known yet"]
_TINY = 1e-45  # the least probability in a file
_MOST_VALUES = 300


class Selection(Record):
    """A cut on ln(p_signal/p_background); the numbers are those of the classes."""

    signal: int
    background: int
    cut: float

    def keeps(self, score_NK: Float[np.ndarray, "N K"]) -> Bool[np.ndarray, " N"]:
        """Return whether jets with these probabilities pass."""
        signal_N, background_N = (np.maximum(score_NK[:, index], _TINY) for index in (self.signal, self.background))
        kept_N: npt.NDArray[np.bool_] = np.log(signal_N / background_N) >= self.cut
        return kept_N


class WatchedFile(Record):
    """A file of jets that was predicted with an audit, and the losses among its jets.

    ``by`` has the losses for each value of a column, as text; None: they are not watched apart.
    """

    input: InputFile
    losses: SeenLosses
    by: dict[str, SeenLosses] | None = None


class MonitorResults(ResultsFile):
    """``monitor.json``. All else follows from the files, in the order in which they came.

    A jet is lost if it gets another class than from the full model. With a ``selection``, the jets that the full model
    selects count alone, and those of them are lost that the exits do not select.

    Attributes:
        model: the hash of the weights.
        policy: the hash of the policy.
        rate: the rate of the audits.
        epsilon: the limit of the risk.
        delta: the probability of a false alarm, at all looks together.
        exact: whether the share of losses is the promised risk; False: the share of other classes is never smaller,
            and a selection has background too.
        selection: the cut of the target; None: its risk is of all jets.
        by: the column whose values are watched apart; None: none is.
        files: the files.
    """

    model: str | None
    policy: str | None
    rate: float
    epsilon: float
    delta: float
    exact: bool
    selection: Selection | None = None
    by: str | None = None
    files: list[WatchedFile] = Field(default_factory=list)

    @property
    def totals(self) -> list[SeenLosses]:
        """The losses after each file."""
        return list(accumulate(file.losses for file in self.files))

    @property
    def verdict(self) -> Verdict:
        """What the files so far say; with ``by``, of the values together. Once broken, a promise stays broken."""
        if self.by is None:
            return self._verdict(self.totals, self.delta)
        verdicts = {self._verdict(seen, delta) for seen, delta in self.sequences.values()}
        return next((verdict for verdict in ("broken", "not known yet") if verdict in verdicts), self._kept)

    @property
    def sequences(self) -> dict[str, tuple[list[SeenLosses], float]]:
        """The losses after each file for each value of the column, and its share of δ.

        The k-th value that comes has the share δ / (k(k + 1)), so that the sum is at most δ for any number of values.
        """
        losses: dict[str, list[SeenLosses]] = defaultdict(list)
        for file in self.files:
            for value, own in (file.by or {}).items():
                losses[value].append(own)
        return {
            value: (list(accumulate(own)), self.delta / (number * (number + 1)))
            for number, (value, own) in enumerate(losses.items(), start=1)
        }

    def verdict_of(self, value: str) -> Verdict:
        """Return what the files so far say about one value of the column."""
        return self._verdict(*self.sequences[value])

    @property
    def _kept(self) -> Verdict:
        return "kept so far" if self.selection is None else "kept so far for the selection"

    def _verdict(self, seen: list[SeenLosses], delta: float) -> Verdict:
        known = math.log(1 / delta)
        if self.exact and any(losses.log_capital_above(self.epsilon) >= known for losses in seen):
            return "broken"
        return self._kept if seen and seen[-1].log_capital_below(self.epsilon) >= known else "not known yet"

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
        jets = _Jets(path, self.rate, classes, self.selection)
        by = None if self.by is None else jets.by(_values(path, manifest, self.by))
        file = WatchedFile(input=manifest.input, losses=jets.losses(np.ones(manifest.jets, dtype=bool)), by=by)
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


def _values(path: Path, manifest: Manifest, by: str) -> npt.NDArray[np.generic]:
    """Return a column whose values are watched apart.

    Raises:
        UsageError: it is not there, or has more values than runs or eras can be.
    """
    if manifest.checksums is not None and by not in manifest.checksums:
        raise UsageError(f"{path} has no column {by} for --by; predict its jets again with --observers {by}")
    column_N = read_column(path, by)
    if column_N.ndim != 1 or (count := len(np.unique(column_N))) > _MOST_VALUES:
        several = "several numbers for each jet" if column_N.ndim != 1 else f"{count:,} values"
        raise UsageError(f"{path} has {several} in {by}; give --by a column of at most {_MOST_VALUES:,}, such as a run")
    return column_N


class _Jets:
    """The jets of a file of predictions: which were seen, for certain or drawn, count and were lost."""

    def __init__(self, path: Path, rate: float, classes: list[str], selection: Selection | None) -> None:
        stems = column_stems(classes).values()
        weight_N = read_column(path, "audit_weight").astype(np.float64)
        own_NK, full_NK = (
            np.stack([read_column(path, f"{prefix}_{stem}") for stem in stems], axis=1)
            for prefix in ("score", "audit_score")
        )
        self.rate, seen_N = rate, weight_N > 0
        lost_N = own_NK.argmax(axis=1) != full_NK.argmax(axis=1)
        if selection is not None:
            seen_N &= selection.keeps(full_NK)  # False where the answer is not known
            lost_N = ~selection.keeps(own_NK)
        self.drawn_N = seen_N & (weight_N != 1) if rate < 1 else seen_N
        self.certain_N, self.lost_N = seen_N & ~self.drawn_N, lost_N

    def by(self, column_N: npt.NDArray[np.generic]) -> dict[str, SeenLosses]:
        """Return the losses for each value of a column, in the order in which the values come."""
        values, first = np.unique(column_N, return_index=True)
        return {str(value): self.losses(column_N == value) for value in values[np.argsort(first)]}

    def losses(self, of_N: Bool[np.ndarray, " N"]) -> SeenLosses:
        """Return the losses among some jets."""
        certain_N, drawn_N = self.certain_N & of_N, self.drawn_N & of_N
        return SeenLosses(
            rate=self.rate,
            jets=int(of_N.sum()),
            certain=int(certain_N.sum()),
            certain_lost=int((self.lost_N & certain_N).sum()),
            drawn=int(drawn_N.sum()),
            drawn_lost=int((self.lost_N & drawn_N).sum()),
        )
