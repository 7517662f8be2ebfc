"""Audited jets of files of predictions: which were seen, for certain or drawn, and which of them were lost."""

from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from phaze_ee.errors import UsageError
from phaze_ee.exits.conditions import bin_title
from phaze_ee.exits.sequence import SeenLosses
from phaze_ee.prediction.columns import column_stems
from phaze_ee.prediction.writers import WRITERS, Manifest, read_column, read_columns, read_manifest
from phaze_ee.results.base import Record
from phaze_ee.shapes import Bool, Float

_EXIT = "exit_index"
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


def read_audited(path: Path) -> Manifest:
    """Return the manifest of predictions with an audit.

    Raises:
        UsageError: there is no such file, it is not one of mode predict or damaged, or it has no audit.
    """
    if path.suffix.removeprefix(".") not in WRITERS:
        raise UsageError(f"{path} is not a file of predictions; give files that mode predict wrote")
    try:
        manifest = read_manifest(path)
    except UsageError as error:
        raise UsageError(
            f"{path} was not written by mode predict of this version, or is damaged; give files that it wrote"
        ) from error
    if manifest.recipe.audit is None:
        raise UsageError(f"{path} has no audit; predict its jets with --audit RATE")
    return manifest


def values_of(path: Path, manifest: Manifest, by: str, edges: Sequence[float] | None = None) -> npt.NDArray[np.generic]:
    """Return a column whose values are watched apart; whole numbers as such, whatever their type.

    Args:
        path: the file of predictions.
        manifest: its manifest.
        by: the column.
        edges: of bins [edge, next edge), whose names stand for the values; jets in none have an empty one. None: the
            values themselves.

    Raises:
        UsageError: it is not there, or its values cannot be those of runs or eras: too many, fractions, or NaN.
    """
    if manifest.checksums is not None and by not in manifest.checksums:
        raise UsageError(f"{path} has no column {by} for --by; predict its jets again with --observers {by}")
    column_N = read_column(path, by)
    if edges is not None and column_N.ndim == 1:
        return _bins(column_N.astype(np.float64), by, edges)
    if column_N.ndim != 1 or (count := len(np.unique(column_N))) > _MOST_VALUES:
        several = "several numbers for each jet" if column_N.ndim != 1 else f"{count:,} values"
        raise UsageError(f"{path} has {several} in {by}; give --by a column of at most {_MOST_VALUES:,}, such as a run")
    if column_N.dtype.kind != "f":
        return column_N
    other_N = column_N != np.rint(column_N)  # NaN too
    if other_N.any() or np.isinf(column_N).any():
        wrong = column_N[other_N | np.isinf(column_N)]
        raise UsageError(
            f"{path} has {wrong[0]:g} in {by} ({len(wrong):,} of {len(column_N):,} jets are not whole numbers); give "
            "--by a column of whole numbers, such as a run"
        )
    return column_N.astype(np.int64)


def _bins(value_N: Float[np.ndarray, " N"], name: str, edges: Sequence[float]) -> npt.NDArray[np.generic]:
    titles = ["", *(bin_title(name, low, high) for low, high in pairwise(edges)), ""]
    number_N = np.searchsorted(edges, value_N, side="right")
    number_N[np.isnan(value_N)] = 0
    return np.array(titles)[number_N]


class AuditedJets:
    """The jets of a file of predictions: which were seen, for certain or drawn, count and were lost.

    Args:
        path: the file.
        exits: the number of exits, without the full model.
        rate: of the audit.
        classes: the names of the classes.
        selection: the cut of jets that count; None: all do.
        others: columns that say which jets other policies would lose.
        leaving: whether only jets that leave early count.
    """

    def __init__(
        self,
        path: Path,
        exits: int,
        rate: float,
        classes: list[str],
        selection: Selection | None,
        others: Sequence[str],
        *,
        leaving: bool,
    ) -> None:
        stems = column_stems(classes).values()
        scores = {prefix: [f"{prefix}_{stem}" for stem in stems] for prefix in ("score", "audit_score")}
        columns = read_columns(path, [*chain(*scores.values()), "audit_weight", _EXIT, *others])
        self.early_N = columns[_EXIT].astype(np.int64) < exits
        self.counts_N = self.early_N if leaving else np.ones_like(self.early_N)
        weight_N = np.where(self.counts_N, columns["audit_weight"].astype(np.float64), 0)
        own_NK, full_NK = (np.stack([columns[name] for name in names], axis=1) for names in scores.values())
        self.others = [columns[name].astype(bool) for name in others]
        self.rate, seen_N = rate, weight_N > 0
        lost_N = own_NK.argmax(axis=1) != full_NK.argmax(axis=1)
        if selection is not None:
            seen_N &= selection.keeps(full_NK)  # False where the answer is not known
            lost_N = ~selection.keeps(own_NK)
        self.drawn_N = seen_N & (weight_N != 1) if rate < 1 else seen_N
        self.certain_N, self.lost_N = seen_N & ~self.drawn_N, lost_N

    def by(self, column_N: npt.NDArray[np.generic]) -> dict[str, SeenLosses]:
        """Return the losses for each value of a column but the empty text, in the order in which the values come."""
        values, first = np.unique(column_N, return_index=True)
        ordered = (value for value in values[np.argsort(first)] if str(value))
        return {str(value): self.losses(column_N == value) for value in ordered}

    def lost_by_others(self) -> list[tuple[int, int]]:
        """Return how many of the jets that were seen for certain, and of those drawn, each other policy loses."""
        return [(int((lost_N & self.certain_N).sum()), int((lost_N & self.drawn_N).sum())) for lost_N in self.others]

    def losses(self, of_N: Bool[np.ndarray, " N"]) -> SeenLosses:
        """Return the losses among some jets."""
        certain_N, drawn_N = self.certain_N & of_N, self.drawn_N & of_N
        return SeenLosses(
            rate=self.rate,
            jets=int((self.counts_N & of_N).sum()),
            certain=int(certain_N.sum()),
            certain_lost=int((self.lost_N & certain_N).sum()),
            drawn=int(drawn_N.sum()),
            drawn_lost=int((self.lost_N & drawn_N).sum()),
            early=int((self.early_N & (certain_N | drawn_N)).sum()),
        )
