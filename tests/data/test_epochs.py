"""Every jet once in an epoch, over ranks, and from any batch on: for any blocks, pools and batches."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phaze_ee.data import batches as batches_module
from phaze_ee.data.epochs import EpochPlan
from phaze_ee.data.jet_columns import Group, InputLayout, JetColumns
from phaze_ee.data.loaders import TrainingLoader
from phaze_ee.data.rows import SpanJets
from phaze_ee.data.spans import SpanReader
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError
from phaze_ee.types import JetBatch

GROUPS = (
    Group("points", ("x", "y"), None),
    Group("features", ("x",), (0,)),
    Group("mask", ("m",), (0,)),
)
LAYOUT = InputLayout(2, GROUPS)


class Numbers:
    """Reads jets whose label is their number; jet n has n modulo 3 particles, whose inputs are n."""

    def __init__(self, sizes: list[int]) -> None:
        self.first = np.cumsum([0, *sizes])

    def read(self, span: Span) -> SpanJets:
        number_N = torch.arange(span.start, span.stop)
        count_N = number_N % 3
        number_V = number_N.repeat_interleave(count_N).numpy().astype(np.float32)
        rows = [number_V, number_V, number_V, np.ones_like(number_V)]
        return SpanJets(JetColumns.of_rows(LAYOUT, rows, count_N, number_N, {}), number_N.numpy())


def loader(
    shards: list[list[int]], batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
) -> TrainingLoader:
    """Return a loader of shards with blocks of the given sizes."""
    spans, first = [], 0
    for number, sizes in enumerate(shards):
        for size in sizes:
            spans.append(Span(Path(f"shard_{number}"), first, first + size))
            first += size
    counts = [span.stop - span.start for span in spans]
    reader = SpanReader(Numbers(counts), spans, num_workers=0)
    return TrainingLoader(
        EpochPlan.of_counts(spans, counts, None),
        reader,
        batch_size=batch_size,
        seed=seed,
        rank=rank,
        world_size=world_size,
        keep=False,
    )


def labels(batches: Iterable[JetBatch]) -> list[list[int]]:
    return [batch.label_N.tolist() for batch in batches]


SHARDS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=5)


@settings(max_examples=40)
@given(
    shards=SHARDS,
    pool=st.integers(1, 40),
    batch_size=st.integers(1, 20),
    world_size=st.integers(1, 4),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 5),
    data=st.data(),
)
def test_every_jet_once_over_all_ranks_and_from_any_batch_on(
    shards: list[list[int]], pool: int, batch_size: int, world_size: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    count = sum(map(sum, shards))
    if count < 2 * world_size:
        return
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches_module, "POOL_JETS", pool)
        for rank in range(world_size):
            own = loader(shards, batch_size, seed, rank, world_size)
            own.set_epoch(epoch)
            whole = labels(own)
            assert len(whole) == len(own) == len(loader(shards, batch_size, seed, 0, world_size))
            assert sum(map(len, whole)) == own.jet_count == count // world_size
            first = data.draw(st.integers(0, len(own)))
            own.set_epoch(epoch, first_batch=first)
            assert labels(own) == whole[first:]
            seen += chain.from_iterable(whole)
    assert len(seen) == len(set(seen)) == count - count % world_size
    assert set(seen) <= set(range(count))


@pytest.mark.parametrize(
    ("jets", "sizes"), [(6, [3, 3]), (7, [3, 4]), (8, [3, 3, 2]), (3, [3]), (4, [4]), (2, [2]), (1, [1]), (0, [])]
)
def test_only_the_last_batch_has_another_size(jets: int, sizes: list[int]) -> None:
    assert batches_module.batch_sizes(jets, 3) == sizes


def test_a_walk_from_a_later_batch_reads_only_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "POOL_JETS", 20)
    read: list[Span] = []
    original = Numbers.read

    def recorded(self: Numbers, span: Span) -> SpanJets:
        read.append(span)
        return original(self, span)

    monkeypatch.setattr(Numbers, "read", recorded)
    own = loader([[10] * 10], batch_size=10)
    own.set_epoch(1, first_batch=7)
    assert len(labels(own)) == 3
    assert len(read) == 4, "the pool of batches 6 and 7, and that of 8 and 9"


def test_a_file_that_changes_while_its_jets_are_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    own, original = loader([[5, 4], [7]], batch_size=5), Numbers.read
    jets, _ = own.numbered()
    assert labels([next(iter(jets))]) == [[0, 1, 2, 3, 4]]
    monkeypatch.setattr(Numbers, "read", lambda self, span: original(self, replace(span, stop=span.stop - 1)))
    with pytest.raises(DataError, match="shard_0 changed while it was in use"):
        list(own.numbered()[0])


def test_batches_hold_what_the_jets_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "POOL_JETS", 8)
    for batch in loader([[5, 4], [7]], batch_size=5):
        jets = batch.inputs.padded()
        for number, features_1P, points_2P in zip(batch.label_N.tolist(), jets.features, jets.points, strict=True):
            count = number % 3
            assert features_1P[0].tolist() == [number] * count + [0] * (2 - count)
            assert points_2P[0].tolist() == ([number, number] if count else [0, 0]), "wrapped"


def test_a_single_particle_among_jets_in_another_order() -> None:
    jets = Numbers([2]).read(Span(Path("shard"), 0, 2)).jets  # jet 1 has one particle, jet 0 has none
    batch = jets.take(torch.tensor([1, 0])).batch()
    assert batch.inputs.padded().features.tolist() == [[[1.0, 0.0]], [[0.0, 0.0]]]
    joined = JetColumns.concatenate([jets.take(torch.tensor([1, 0])), jets]).batch()
    assert joined.inputs.ragged().features_VC.tolist() == [[1.0], [1.0]]
