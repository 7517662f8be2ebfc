"""The rows of files, cut into spans that are read one after the other."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from phaze_ee.data.file_part import WHOLE, FilePart
from phaze_ee.data.sources import Source, open_source
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError

if TYPE_CHECKING:
    from phaze_ee.data.schema import DataSchema

ItemT = TypeVar("ItemT")

# A span may have this many times the wanted rows, where a file packs them together.
_PACKED_TOGETHER = 4


Check = Callable[[Source, Path], object]


def split_into_spans(
    schema: "DataSchema",
    files: Iterable[Path],
    rows: int,
    *,
    as_packed: bool = False,
    check: Check | None = None,
) -> list[Span]:
    """Return the rows of all files that a data configuration reads, in order, in spans as of :func:`spans_of`.

    Raises:
        DataError: a file cannot be read, or no file has such rows; or ``check`` raises it.
    """
    treename, part = schema.weaver.treename, schema.part
    spans = [
        span for path in files for span in spans_of(path, treename, rows, part=part, as_packed=as_packed, check=check)
    ]
    if not spans:
        raise DataError(f"no jets in {', '.join(map(str, files))}{part.of_rows}")
    return spans


def files_of(spans: Iterable[Span]) -> str:
    """Return the files of some rows in words: the first, and how many more."""
    paths = list(dict.fromkeys(str(span.path) for span in spans))
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more files"


def row_count(path: Path, treename: str | None) -> int:
    """Return the number of rows of a file.

    Raises:
        DataError: the file cannot be read.
    """
    with open_source(path, treename) as source:
        return source.row_count


def spans_of(
    path: Path,
    treename: str | None,
    rows: int,
    *,
    part: FilePart = WHOLE,
    as_packed: bool = False,
    check: Check | None = None,
) -> list[Span]:
    """Return the rows of a file in order, in spans of at most ``rows``; none if it is empty.

    Args:
        path: the file.
        treename: the tree to read, where the file has several.
        rows: the most rows in a span.
        part: the part of the file.
        as_packed: let spans end where the file's compressed blocks end, so that no block is unpacked twice. A span may
            then have up to four times ``rows``.
        check: called with the open file, to refuse it before anything is read.

    Raises:
        DataError: the file cannot be read; or ``check`` raises it.
    """
    with open_source(path, treename) as source:
        if check is not None:
            check(source, path)
        first, last = part.rows_of(source.row_count)
        offsets = [min(max(offset, first), last) for offset in source.offsets] if as_packed else [first, last]
    most = _PACKED_TOGETHER * rows if as_packed else rows
    cuts = [first]
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
