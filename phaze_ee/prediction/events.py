"""Groups the jets of a file into events, independent of the parts in which the file is read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt

from phaze_ee.data.rows import SpanJets
from phaze_ee.errors import DataError


@final
@dataclass(frozen=True)
class Events:
    """How jets form events: ``size`` consecutive rows of the file, or consecutive jets with one value of an observer.

    Attributes:
        size: the rows of an event, with those that the selection cuts away; None: ``column`` decides.
        column: the observer.
    """

    size: int | None = None
    column: str | None = None

    def values(self, rows: SpanJets, path: Path) -> npt.NDArray[np.generic]:
        """Return what says to which event each jet belongs: jets in a row with the same value are of one event.

        Args:
            rows: the jets.
            path: their file, for errors.

        Raises:
            DataError: there is no such observer, or it is NaN for a jet.
        """
        if self.size is not None:
            return rows.row_N // self.size
        assert self.column is not None
        if self.column not in rows.jets.observers:
            raise DataError(
                f"--event-column {self.column!r} is not among the observers {', '.join(rows.jets.observers)}"
            )
        value_N: npt.NDArray[np.generic] = np.asarray(rows.jets.observers[self.column])
        unknown_N = value_N != value_N
        if unknown_N.any():
            row = rows.row_N[int(np.argmax(unknown_N))]
            raise DataError(f"{path} row {row}: --event-column {self.column} is NaN; give each jet its event")
        return value_N


@final
class WholeEvents:
    """The jets of a file in parts of whole events, each with the event of its jets, counted from 0 in the part.

    Args:
        parts: the jets of a file, in order.
        events: how jets form events.
        path: the file, for errors.

    Attributes:
        returned: how many events had a value that an event before had, with others between. They count as new ones.

    Raises:
        DataError: so says :meth:`Events.values`, while iterating.
    """

    def __init__(self, parts: Iterable[SpanJets], events: Events, path: Path) -> None:
        self._parts, self._events, self._path = parts, events, path
        self._seen: set[object] = set()
        self.returned = 0

    def __iter__(self) -> Iterator[tuple[SpanJets, npt.NDArray[np.int64]]]:
        rest: SpanJets | None = None
        for part in self._parts:
            rows = part if rest is None else SpanJets.concatenate([rest, part])
            value_N = self._events.values(rows, self._path)
            event_N = _runs(value_N)
            # The last event may go on in the next part.
            whole = int((event_N < event_N[-1]).sum()) if len(rows) else 0
            self._count(value_N[:whole], event_N[:whole])
            yield rows.take(slice(whole)), event_N[:whole]
            rest = rows.take(slice(whole, None))
        if rest is not None:
            value_N = self._events.values(rest, self._path)
            self._count(value_N, _runs(value_N))
            yield rest, _runs(value_N)

    def _count(self, value_N: npt.NDArray[np.generic], event_N: npt.NDArray[np.int64]) -> None:
        if self._events.size is not None:  # rows come once
            return
        for value in value_N[np.unique(event_N, return_index=True)[1]].tolist():
            self.returned += value in self._seen
            self._seen.add(value)


def _runs(value_N: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    changes_N: npt.NDArray[np.int64] = np.append(False, value_N[1:] != value_N[:-1])[: len(value_N)].cumsum()
    return changes_N
