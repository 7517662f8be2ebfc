"""The plan of a training epoch: how many jets each span gives, and the order in which spans are read."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from phaze_ee.data.rows import RowReader
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError

logger = logging.getLogger(__name__)

MAX_REPEATS = 10  # weaver's max_resample
COUNTING_ROWS = 100_000  # read at a time to count jets
GOLDEN_RATIO = (np.sqrt(5) - 1) / 2


def repeats(weight_sum: float, jet_count: int) -> int:
    """Return how often a jet of weight 1 or more is drawn, so that an epoch is about as long as without weights."""
    return int(min(MAX_REPEATS, max(1, jet_count // max(1.0, weight_sum))))


def keep_probability(weight_N: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return weaver's probability to keep a jet: its weight, clipped to 0 … 1."""
    return np.clip(weight_N.astype(np.float64), 0, 1)


def resample(weight_N: npt.NDArray[np.floating], count: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return ``count`` indices, each jet in proportion to its weight.

    This is systematic resampling. The expected number of copies of a jet is that of weaver's independent draws, but it
    varies by less than one, and the total does not vary: the length of an epoch is known in advance.
    """
    cumulative = np.cumsum(keep_probability(weight_N))
    if count == 0:
        return np.empty(0, dtype=np.intp)
    positions = (np.arange(count) + rng.uniform()) * (cumulative[-1] / count)
    found: npt.NDArray[np.intp] = np.searchsorted(cumulative, positions, side="right")
    return np.minimum(found, len(cumulative) - 1)


@dataclass(frozen=True)
class EpochPlan:
    """The spans of the training files, the number of jets in each, and the number that each gives in an epoch."""

    spans: tuple[Span, ...]
    selected: tuple[int, ...]
    drawn: tuple[int, ...]

    @classmethod
    def make(cls, reader: RowReader, spans: Sequence[Span]) -> Self:
        """Count the jets that pass the selection, and sum their sampling weights.

        Only the columns of the selection and the weights are read; if there are neither, none are.

        Raises:
            DataError: a file cannot be used, or no jet passes.
        """
        if reader.selection is None and not reader.has_weights:
            sizes = tuple(span.stop - span.start for span in spans)
            return cls(tuple(spans), sizes, sizes)
        selected, weight_sums = _survey(reader, spans)
        if not selected.any():
            raise DataError(f"no jet of {_names(spans)} passes the selection {reader.selection!r}; loosen it")
        return cls.of_counts(spans, selected.tolist(), weight_sums.tolist() if reader.has_weights else None)

    @classmethod
    def of_counts(cls, spans: Sequence[Span], selected: Sequence[int], weight_sums: Sequence[float] | None) -> Self:
        """Return the plan for spans of which the jets, and the sums of their probabilities to be kept, are known.

        Raises:
            DataError: every jet has weight 0.
        """
        if weight_sums is None:
            return cls(tuple(spans), tuple(selected), tuple(selected))
        times = repeats(weight_sum=sum(weight_sums), jet_count=sum(selected))
        drawn = np.rint(np.asarray(weight_sums) * times).astype(int)
        if not drawn.any():
            raise DataError(
                f"every jet of {_names(spans)} has sampling weight 0; correct the weights of the data config"
            )
        return cls(tuple(spans), tuple(selected), tuple(drawn.tolist()))

    @property
    def jet_count(self) -> int:
        """Jets in an epoch, of all processes."""
        return sum(self.drawn)

    def order(self, rng: np.random.Generator) -> list[int]:
        """Return the spans in a random order that mixes the files evenly.

        The spans of each file are shuffled and spread evenly over the epoch. Files that are next to each other in the
        list are often of one class, so their phases follow the golden ratio, which spreads neighbours evenly.
        """
        keys = np.empty(len(self.spans))
        start = rng.uniform()
        by_file = groupby(range(len(self.spans)), key=lambda index: self.spans[index].path)
        for number, (_, group) in enumerate(by_file):
            own = rng.permutation(list(group))
            phase = (start + number * GOLDEN_RATIO) % 1
            keys[own] = (np.arange(len(own)) + phase) / len(own)
        return [int(index) for index in np.argsort(keys, kind="stable")]


def _survey(reader: RowReader, spans: Sequence[Span]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return, for each span, the number of selected jets and the sum of their probabilities to be kept."""
    selected, weight_sums = np.zeros(len(spans), dtype=np.int64), np.zeros(len(spans))
    for path, group in groupby(range(len(spans)), key=lambda index: spans[index].path):
        indices = list(group)
        starts = [spans[index].start for index in indices]
        for block in _blocks(path, starts[0], spans[indices[-1]].stop):
            row_N, weight_N = reader.survey(block)
            span_N = indices[0] + np.searchsorted(starts, row_N, side="right") - 1
            np.add.at(selected, span_N, 1)
            np.add.at(weight_sums, span_N, keep_probability(weight_N))
    return selected, weight_sums


def _blocks(path: Path, start: int, stop: int) -> Iterator[Span]:
    for first in range(start, stop, COUNTING_ROWS):
        yield Span(path, first, min(first + COUNTING_ROWS, stop))


def _names(spans: Sequence[Span]) -> str:
    paths = list(dict.fromkeys(str(span.path) for span in spans))
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more files"
