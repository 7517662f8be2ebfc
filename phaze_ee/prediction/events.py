"""Groups the jets of a file into events, independent of the parts in which the file is read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from phaze_ee.data.rows import SpanJets
from phaze_ee.errors import DataError


@final
@dataclass(frozen=True)
class Events:
    """How jets form events: ``size`` consecutive jets, or consecutive jets with the same value of an observer.

    Attributes:
        size: the jets of an event; None: ``column`` decides.
        column: the observer.
    """

    size: int | None = None
    column: str | None = None

    def numbers(self, rows: SpanJets, position: int) -> npt.NDArray[np.int64]:
        """Return the event of each jet, counted from 0 in these rows.

        Args:
            rows: the jets.
            position: the number of jets of the file that come before them.

        Raises:
            DataError: there is no such observer.
        """
        if self.size is not None:
            place_N = np.arange(position, position + len(rows)) // self.size
            return place_N - (place_N[0] if len(rows) else 0)
        assert self.column is not None
        if self.column not in rows.jets.observers:
            raise DataError(
                f"--event-column {self.column!r} is not among the observers {', '.join(rows.jets.observers)}"
            )
        value_N = rows.jets.observers[self.column]
        changes_N: npt.NDArray[np.int64] = np.append(False, value_N[1:] != value_N[:-1])[: len(rows)].cumsum()
        return changes_N


def whole_events(parts: Iterable[SpanJets], events: Events) -> Iterator[tuple[SpanJets, npt.NDArray[np.int64]]]:
    """Yield the jets in parts of whole events, each with the event of its jets.

    Args:
        parts: the jets of a file, in order.
        events: how jets form events.

    Raises:
        DataError: there is no such observer.
    """
    position, rest = 0, None
    for part in parts:
        rows = part if rest is None else SpanJets.concatenate([rest, part])
        event_N = events.numbers(rows, position)
        # The last event may go on in the next part.
        whole = int((event_N < event_N[-1]).sum()) if len(rows) else 0
        yield rows.take(slice(whole)), event_N[:whole]
        position, rest = position + whole, rows.take(slice(whole, None))
    if rest is not None:
        yield rest, events.numbers(rest, position)
