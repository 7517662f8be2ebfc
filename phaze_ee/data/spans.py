"""Reading files span by span, in this process or in worker processes, in any order.

The size and the time of change of a file are compared after each read, so that a file that changes while it is in use
is an error and not a mixture of two.
"""

import logging
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from phaze_ee.data.bad_values import said
from phaze_ee.data.rows import SpanJets
from phaze_ee.data.stamps import Stamp, changed, stamp, stamps
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError, PhazeError, RunError
from phaze_ee.machine import core_count

logger = logging.getLogger(__name__)

# Below this many rows the start of worker processes (seconds each) costs more than they save.
WORKER_ROWS = 100_000
_EMPTY_JETS = 1_000  # so many, and no other before them, are a mistake in a mask


class Reader(Protocol):
    """Turns rows of a file into jets."""

    def read(self, span: Span) -> SpanJets:
        """Return the selected jets of a span."""


@dataclass(frozen=True)
class _ReadSpans(Dataset[SpanJets | PhazeError]):
    reader: Reader
    spans: Sequence[Span]
    stamps: Mapping[Path, Stamp]  # of the files when the reader was made

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> SpanJets | PhazeError:
        # torch would wrap a worker's exception in its whole traceback, so the exception is returned as a value.
        span = self.spans[index]
        try:
            found = self.reader.read(span)
        except PhazeError as error:
            return error
        return found if stamp(span.path) == self.stamps[span.path] else changed(span.path)


class _Order(torch.utils.data.Sampler[int]):
    """The indices that the workers read next. Unlike those of a list, they can change between two passes."""

    def __init__(self) -> None:
        self.indices: Sequence[int] = ()

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


class SpanReader:
    """Reads spans by index, in any order. The result does not depend on the number of workers.

    Args:
        reader: turns a span into jets.
        spans: the spans.
        num_workers: processes that read ahead; 0: this process reads. Few rows are always read by this process.
    """

    def __init__(self, reader: Reader, spans: Sequence[Span], num_workers: int) -> None:
        self._dataset, self._order = _ReadSpans(reader, spans, stamps(span.path for span in spans)), _Order()
        self._bad: Counter[str] | None = Counter()  # None: they have been said
        self._empty: int | None = 0  # jets, none of which had a particle; None: one had
        rows = sum(span.stop - span.start for span in spans)
        workers = min(num_workers, len(spans), core_count()) if rows >= WORKER_ROWS else 0
        self._loader: Iterable[SpanJets | PhazeError] | None = self._start_workers(workers) if workers else None

    def _start_workers(self, workers: int) -> Iterable[SpanJets | PhazeError]:
        return DataLoader(
            self._dataset,
            batch_size=None,
            sampler=self._order,
            num_workers=workers,
            collate_fn=_unchanged,
            multiprocessing_context=worker_context(),
            persistent_workers=True,
        )

    def read(self, indices: Sequence[int]) -> Iterator[SpanJets]:
        """Yield the jets of some spans, in the order of ``indices``.

        Raises:
            DataError: a file cannot be used, or none of the first thousand jets has a particle.
            RunError: a worker process died.
        """
        self._order.indices = indices
        source = map(self._dataset.__getitem__, indices) if self._loader is None else _alive(self._loader)
        try:
            for found in source:
                if isinstance(found, PhazeError):
                    raise found
                if self._bad is not None:
                    self._bad.update(found.bad)
                self._look_for_particles(found)
                yield found
        finally:
            self._say_what_was_bad()

    def _look_for_particles(self, found: SpanJets) -> None:
        """Refuse data whose jets are all empty, of which every network would say the same."""
        if self._empty is None or not len(found):
            return
        self._empty += len(found)
        if bool(found.jets.batch().inputs.total_count_N.any()):
            self._empty = None
        elif self._empty >= _EMPTY_JETS:
            raise DataError(
                f"none of the first {self._empty:,} jets that were read has a particle ({self._dataset.spans[0].path}, "
                "…): the mask of the data config is 0 for all of them, or their lists are empty; correct the mask or "
                "the files"
            )

    def _say_what_was_bad(self) -> None:
        """Log the counts of the first pass that met bad values."""
        if self._bad:
            logger.warning("%s", said([self._bad]))
            self._bad = None


def worker_context() -> ForkServerContext:
    """Return the context that starts processes that read jets."""
    # Not fork: this process has threads (torch, the progress bar, CUDA). Workers are forked from a server that imports
    # the libraries, which takes seconds, only once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["phaze_ee.data.warm_up"])
    return context


def _unchanged(found: Any) -> Any:
    return found


def _alive(loader: Iterable[SpanJets | PhazeError]) -> Iterator[SpanJets | PhazeError]:
    try:
        yield from loader
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"a process that reads data died: {reason}; often memory or /dev/shm: lower num_workers"
        ) from error
