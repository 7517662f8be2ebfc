"""The plan of a training epoch: how many jets each span gives, and the order in which spans are read."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from phaze_ee.data.row_spans import files_of
from phaze_ee.data.rows import RowReader
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError

logger = logging.getLogger(__name__)

MAX_REPEATS = 10  # weaver's max_resample
COUNTING_ROWS = 100_000  # read at a time to count jets
GOLDEN_RATIO = (np.sqrt(5) - 1) / 2
_ROUNDING = 1e-6  # of a jet: 0.3 of 10 jets is 3, not 2.9999999

Floats = npt.NDArray[np.float64]


def repeats(weight_sum: float, jet_count: int) -> int:
    """Return how often a jet of weight 1 or more is drawn, so that an epoch is about as long as without weights."""
    return int(min(MAX_REPEATS, max(1, jet_count // max(1.0, weight_sum))))


def keep_probability(weight_N: npt.NDArray[np.floating]) -> Floats:
    """Return weaver's probability to keep a jet: its weight, clipped to 0 … 1."""
    return np.clip(weight_N.astype(np.float64), 0, 1)


def resample(weight_N: npt.NDArray[np.floating], position_M: Floats, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return the jets at M positions, where each jet takes as much of the interval 0 … 1 as its weight says.

    The jets are laid out in a random order. Otherwise evenly spaced positions could meet one class only, in files where
    the classes alternate.
    """
    if not len(position_M):
        return np.empty(0, dtype=np.intp)
    order_N = rng.permutation(len(weight_N))
    cumulative_N = np.cumsum(keep_probability(weight_N)[order_N])
    total = cumulative_N[-1]
    place_M = np.minimum(position_M * total, np.nextafter(total, 0))  # rounding must not reach beyond the last jet
    found_M: npt.NDArray[np.intp] = order_N[np.searchsorted(cumulative_N, place_M, side="right")]
    return found_M


@dataclass(frozen=True)
class Draws:
    """The jets that the S spans give in one epoch: ``count_S`` of each.

    Their positions in a span, where the whole span is 0 … 1, are ``offset_S``, ``offset_S + step_S``, and so on.
    """

    count_S: npt.NDArray[np.int64]
    offset_S: Floats
    step_S: Floats

    def positions(self, index: int) -> Floats:
        """Return the positions of the drawn jets in a span."""
        position_M: Floats = self.offset_S[index] + self.step_S[index] * np.arange(self.count_S[index])
        return position_M


@dataclass(frozen=True)
class EpochPlan:
    """The spans of the training files, and how many jets each gives in an epoch.

    Without weights every selected jet comes once. With weights w, weaver keeps each of r copies of a jet with
    probability p = min(w, 1), independently, where r is :func:`repeats`. Here one systematic draw covers the epoch: the
    jets lie side by side on a line, in a random order of spans and of the jets in each, and each takes r·p of it; every
    whole step from a random start picks one. So the expected number of copies of a jet is weaver's, r·p, and the number
    is one of the two integers around it. With f the fractional part of r·p, its variance is f(1 - f), at most that of
    weaver's draws, r·p(1 - p). The length of the epoch does not vary: it is the sum of all r·p, rounded, and the
    expected numbers are scaled by that rounding.

    Attributes:
        spans: the spans.
        selected: the jets of each span that pass the selection.
        weight_sums: for each span, the sum of the probabilities p; None: there are no weights.
        data_fraction: the part of the jets of each file that an epoch draws from. They follow each other in the file,
            from a start that is random in each epoch.
        file_fraction: the part of the files that an epoch draws from, at random in each epoch; the last one in part.
    """

    spans: tuple[Span, ...]
    selected: tuple[int, ...]
    weight_sums: tuple[float, ...] | None = None
    data_fraction: float = 1
    file_fraction: float = 1

    @classmethod
    def make(cls, reader: RowReader, spans: Sequence[Span]) -> Self:
        """Count the jets that pass the selection, and sum their sampling weights.

        Only the columns of the selection and the weights are read; if there are neither, none are.

        Raises:
            DataError: a file cannot be used, or no jet passes.
        """
        if reader.selection is None and not reader.has_weights:
            return cls(tuple(spans), tuple(span.stop - span.start for span in spans))
        selected, weight_sums = _survey(reader, spans)
        if not selected.any():
            raise DataError(f"no jet of {files_of(spans)} passes the selection {reader.selection!r}; loosen it")
        return cls.of_counts(spans, selected.tolist(), weight_sums.tolist() if reader.has_weights else None)

    @classmethod
    def of_counts(cls, spans: Sequence[Span], selected: Sequence[int], weight_sums: Sequence[float] | None) -> Self:
        """Return the plan for spans of which the jets, and the sums of their probabilities to be kept, are known.

        Raises:
            DataError: every jet has weight 0.
        """
        if weight_sums is not None and not any(weight_sums):
            raise DataError(
                f"every jet of {files_of(spans)} has sampling weight 0; correct the weights of the data config"
            )
        return cls(tuple(spans), tuple(selected), None if weight_sums is None else tuple(weight_sums))

    @property
    def takes_every_jet(self) -> bool:
        """Whether every selected jet comes once in an epoch."""
        return self.weight_sums is None and self.data_fraction == self.file_fraction == 1

    @cached_property
    def jet_count(self) -> int:
        """Jets in an epoch, of all processes."""
        total = float(self._expected_S.sum()) * self.data_fraction * self.file_fraction
        # Without weights no jet comes twice, so the number is rounded down.
        return round(total) if self.weight_sums is not None else int(total + _ROUNDING)

    def draws(self, rng: np.random.Generator) -> Draws:
        """Return what each span gives in one epoch."""
        if self.takes_every_jet:
            count_S = np.asarray(self.selected, dtype=np.int64)
            return Draws(count_S, np.zeros(len(count_S)), 1 / np.maximum(count_S, 1))
        return _systematic(self._in_epoch(rng), self.jet_count, rng)

    @cached_property
    def _expected_S(self) -> Floats:
        """The expected number of jets of each span when an epoch draws from all jets."""
        if self.weight_sums is None:
            return np.asarray(self.selected, dtype=np.float64)
        return np.asarray(self.weight_sums) * repeats(sum(self.weight_sums), sum(self.selected))

    def _in_epoch(self, rng: np.random.Generator) -> Floats:
        """Return the expected number of jets of each span, where an epoch draws from a part of the jets."""
        expected_S = self._expected_S.copy()
        files = [list(group) for _, group in groupby(range(len(self.spans)), key=lambda index: self.spans[index].path)]
        if self.data_fraction < 1:
            for own in files:
                expected_S[own] = _window(expected_S[own], self.data_fraction, rng.uniform())
        if self.file_fraction < 1:
            total_F = np.array([expected_S[own].sum() for own in files])
            order_F = rng.permutation(len(files))
            kept_F = np.zeros(len(files))
            kept_F[order_F] = _window(total_F[order_F], self.file_fraction, rng.uniform())
            for own, kept, total in zip(files, kept_F, total_F, strict=True):
                expected_S[own] *= kept / total if total else 0
        return expected_S

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


def _systematic(expected_S: Floats, count: int, rng: np.random.Generator) -> Draws:
    """Return a systematic draw of ``count`` jets; the spans lie in a random order."""
    order_S = rng.permutation(len(expected_S))
    end_S = np.cumsum(expected_S[order_S])
    end_S *= count / end_S[-1]
    end_S[-1] = count
    begin_S = np.concatenate([[0], end_S[:-1]])
    first = rng.uniform()
    begin_number_S, end_number_S = np.ceil(begin_S - first), np.ceil(end_S - first)
    width_S = np.maximum(end_S - begin_S, np.finfo(np.float64).tiny)
    count_S, offset_S, step_S = np.zeros(len(order_S), dtype=np.int64), np.zeros(len(order_S)), np.zeros(len(order_S))
    count_S[order_S] = end_number_S - begin_number_S
    offset_S[order_S] = (begin_number_S + first - begin_S) / width_S
    step_S[order_S] = 1 / width_S
    return Draws(count_S, offset_S, step_S)


def _window(width_S: Floats, share: float, start: float) -> Floats:
    """Return how much of each of some stretches lies in a window.

    The window takes ``share`` of their total length and begins at ``start``, from 0 to 1; at the end it continues at
    the front.
    """
    end_S = np.cumsum(width_S)
    total, begin_S = end_S[-1], end_S - width_S
    low, high = start * total, (start + share) * total
    parts = [np.minimum(end_S, high - turn) - np.maximum(begin_S, low - turn) for turn in (0, total)]
    inside_S: Floats = sum(np.clip(part_S, 0, None) for part_S in parts)
    return inside_S


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
