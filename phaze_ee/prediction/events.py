"""Which jets of a file belong to one event, whatever the parts in which the file is read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch

from phaze_ee.data.rows import JetRows
from phaze_ee.errors import DataError
from phaze_ee.types import RaggedJets


@final
@dataclass(frozen=True)
class Events:
    """How jets make events: ``size`` in a row, or all in a row with the same value of the observer ``column``."""

    size: int | None = None
    column: str | None = None

    def numbers(self, rows: JetRows, position: int) -> npt.NDArray[np.int64]:
        """Return the event of each jet, counted within these rows; ``position`` jets of the file come before them.

        Raises:
            DataError: there is no such column.
        """
        if self.size is not None:
            place_N = np.arange(position, position + len(rows)) // self.size
            return place_N - (place_N[0] if len(rows) else 0)
        assert self.column is not None
        if self.column not in rows.observers:
            raise DataError(f"--event-column {self.column!r} is not among the observers {', '.join(rows.observers)}")
        value_N = rows.observers[self.column]
        changes_N: npt.NDArray[np.int64] = np.append(False, value_N[1:] != value_N[:-1])[: len(rows)].cumsum()
        return changes_N


def whole_events(parts: Iterable[JetRows], events: Events) -> Iterator[tuple[JetRows, npt.NDArray[np.int64]]]:
    """Yield the jets again, cut between events only, each part with the event of each jet."""
    position, rest = 0, None
    for part in parts:
        rows = part if rest is None else _joined(rest, part)
        event_N = events.numbers(rows, position)
        # The last event may go on in the next part.
        whole = int((event_N < event_N[-1]).sum()) if len(rows) else 0
        yield _slice(rows, 0, whole), event_N[:whole]
        position, rest = position + whole, _slice(rows, whole, len(rows))
    if rest is not None:
        yield rest, events.numbers(rest, position)


def _slice(rows: JetRows, start: int, stop: int) -> JetRows:
    place = torch.arange(start, stop)
    observers = {name: column[start:stop] for name, column in rows.observers.items()}
    return JetRows(rows.jets.select(place), rows.label_N[start:stop], observers, rows.row_N[start:stop])


def _joined(first: JetRows, second: JetRows) -> JetRows:
    one, two = first.jets.ragged(), second.jets.ragged()
    vectors = None if one.vectors_V4 is None or two.vectors_V4 is None else torch.cat([one.vectors_V4, two.vectors_V4])
    jets = RaggedJets(
        torch.cat([one.points_V2, two.points_V2]),
        torch.cat([one.features_VC, two.features_VC]),
        vectors,
        torch.cat([one.particle_count_N, two.particle_count_N]),
    )
    observers = {name: np.concatenate([column, second.observers[name]]) for name, column in first.observers.items()}
    label_N = torch.cat([first.label_N, second.label_N])
    return JetRows(jets, label_N, observers, np.concatenate([first.row_N, second.row_N]))
