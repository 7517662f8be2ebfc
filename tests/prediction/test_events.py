"""Events stay whole, in whatever parts a file is read."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phaze_ee.data.jet_columns import Group, InputLayout, JetColumns
from phaze_ee.data.rows import SpanJets
from phaze_ee.errors import DataError
from phaze_ee.prediction.events import Events, WholeEvents

FILE = Path("jets.root")
COUNTS = [1 + number % 5 for number in range(40)]
FEATURES_V1 = torch.arange(float(sum(COUNTS)))[:, None]
ROWS = [*torch.zeros(2, sum(COUNTS)).numpy(), FEATURES_V1[:, 0].numpy(), np.ones(sum(COUNTS), dtype=np.float32)]
LAYOUT = InputLayout(
    8, (Group("points", ("x", "y"), None), Group("features", ("f",), (0.0,)), Group("mask", ("m",), (0.0,)))
)
JETS = JetColumns.of_rows(LAYOUT, ROWS, torch.tensor(COUNTS), torch.arange(len(COUNTS)), {})
EVENT_OF = np.array([3, 3, 3, 1, 1, 8, 3, 3, 5, 5] * 4)  # 3 comes back: another event


def parts(sizes: list[int]) -> Iterator[SpanJets]:
    start = 0
    for size in [*sizes, len(COUNTS)]:
        stop = min(start + size, len(COUNTS))
        rows = np.arange(start, stop)
        yield SpanJets(replace(JETS.take(slice(start, stop)), observers={"event": EVENT_OF[rows]}), rows)
        start = stop


def collected(sizes: list[int], events: Events) -> tuple[list[list[int]], torch.Tensor]:
    """The rows of each event, and the features of all jets in the order in which they come."""
    made: list[list[int]] = []
    features = []
    for rows, event_N in WholeEvents(parts(sizes), events, FILE):
        made += [rows.row_N[event_N == event].tolist() for event in np.unique(event_N)]
        batch = rows.jets.batch()
        features.append(batch.inputs.ragged().features_VC)
        assert (batch.label_N.numpy() == rows.row_N).all()
    return made, torch.cat(features)


@given(st.lists(st.integers(0, 17), max_size=12))
def test_the_parts_have_no_part_in_it(sizes: list[int]) -> None:
    for events in (Events(size=3), Events(column="event")):
        made, features = collected(sizes, events)
        assert made == collected([], events)[0]
        assert torch.equal(features, FEATURES_V1)


def test_only_the_event_that_may_go_on_waits_for_the_next_part() -> None:
    sizes = [len(rows) for rows, _ in WholeEvents(parts([4] * 10), Events(size=3), FILE)]
    assert (sum(sizes), max(sizes)) == (40, 6)


def test_blocks_and_runs() -> None:
    assert collected([7], Events(size=16))[0] == [list(range(16)), list(range(16, 32)), list(range(32, 40))]
    assert collected([7], Events(column="event"))[0][:5] == [[0, 1, 2], [3, 4], [5], [6, 7], [8, 9]]


def test_a_column_that_is_not_there_is_told() -> None:
    with pytest.raises(DataError, match="'evt' is not among the observers event"):
        collected([7], Events(column="evt"))


def test_events_that_come_back_are_counted() -> None:
    for sizes in ([], [4], [1] * 40):
        events = WholeEvents(parts(sizes), Events(column="event"), FILE)
        made = [np.unique(event_N).size for _, event_N in events]
        values = EVENT_OF[np.append(True, EVENT_OF[1:] != EVENT_OF[:-1])].tolist()
        assert (sum(made), events.returned) == (len(values), len(values) - len(set(values)))
    in_rows = WholeEvents(parts([]), Events(size=3), FILE)
    assert (len(list(in_rows)), in_rows.returned) == (2, 0)


def test_rows_that_the_selection_cuts_away_count() -> None:
    kept = [rows.take(slice(0, len(rows), 2)) for rows in parts([2, 11])]
    made = [
        rows.row_N[event_N == event].tolist()
        for rows, event_N in WholeEvents(kept, Events(size=3), FILE)
        for event in np.unique(event_N)
    ]
    left = np.concatenate([rows.row_N for rows in kept])
    assert made == [left[left // 3 == event].tolist() for event in np.unique(left // 3)]


def test_an_event_that_is_no_number_is_refused() -> None:
    value_N = EVENT_OF.astype(np.float64)
    value_N[5] = np.nan
    [rows, *_] = parts([40])
    odd = SpanJets(replace(rows.jets, observers={"event": value_N}), rows.row_N)
    with pytest.raises(DataError, match=r"jets\.root row 5: --event-column event is NaN; give each jet its event"):
        list(WholeEvents([odd], Events(column="event"), FILE))
