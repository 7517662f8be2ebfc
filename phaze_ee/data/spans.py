"""Reading files span by span, in this process or in worker processes, in any order.

The size and the time of change of a file are compared after each read, so that a file that changes while it is in use
is an error and not a mixture of two.
"""

import logging
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from phaze_ee.data.bad_values import said
from phaze_ee.data.rows import SpanJets
from phaze_ee.data.sources import open_source
from phaze_ee.data.stamps import Stamp, changed, stamp, stamps
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError, PhazeError, RunError
from phaze_ee.machine import core_count

logger = logging.getLogger(__name__)
ItemT = TypeVar("ItemT")

# Below this many rows the start of worker processes (seconds each) costs more than they save.
WORKER_ROWS = 100_000
# A span may have this many times the wanted rows, where a file packs them together.
_PACKED_TOGETHER = 4


def split_into_spans(files: Iterable[Path], treename: str | None, rows: int, *, as_packed: bool = False) -> list[Span]:
    """Return the rows of all files in order, in spans as :func:`spans_of` makes them.

    Raises:
        DataError: a file cannot be read, or no file has rows.
    """
    spans = [span for path in files for span in spans_of(path, treename, rows, as_packed=as_packed)]
    if not spans:
        raise DataError(f"no jets in {', '.join(map(str, files))}")
    return spans


def row_count(path: Path, treename: str | None) -> int:
    """Return the number of rows of a file.

    Raises:
        DataError: the file cannot be read.
    """
    with open_source(path, treename) as source:
        return source.row_count


def spans_of(path: Path, treename: str | None, rows: int, *, as_packed: bool = False) -> list[Span]:
    """Return the rows of a file in order, in spans of at most ``rows``; none if it is empty.

    Args:
        path: the file.
        treename: the tree to read, where the file has several.
        rows: the most rows in a span.
        as_packed: let spans end where the file's compressed blocks end, so that no block is unpacked twice. A span may
            then have up to four times ``rows``.

    Raises:
        DataError: the file cannot be read.
    """
    with open_source(path, treename) as source:
        offsets = source.offsets if as_packed else (0, source.row_count)
    most = _PACKED_TOGETHER * rows if as_packed else rows
    cuts = [0]
    for start, stop in pairwise(offsets):
        if stop - cuts[-1] > rows and start > cuts[-1]:
            cuts.append(start)
        if stop - start > most:
            cuts.extend(range(start + rows, stop, rows))
    if offsets[-1] > cuts[-1]:
        cuts.append(offsets[-1])
    return [Span(path, start, stop) for start, stop in pairwise(cuts)]


def ahead(items: Iterable[ItemT]) -> Iterator[ItemT]:
    """Yield items in order; a thread makes the next item while the caller uses the current one."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as pool:
        pending: Future[ItemT | None] = pool.submit(next, iterator, None)
        while (item := pending.result()) is not None:
            pending = pool.submit(next, iterator, None)
            yield item


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
            DataError: a file cannot be used.
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
                yield found
        finally:
            self._say_what_was_bad()

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
