"""Jets are drawn in proportion to their weights, with weaver's mean and at most its variance, by every plan."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from weaver.utils.dataset import _get_reweight_indices

from phaze_ee.data import loaders
from phaze_ee.data.cache import build, shards
from phaze_ee.data.cache.build import Job, build_cache
from phaze_ee.data.epochs import EpochPlan, keep_probability, repeats, resample
from phaze_ee.data.jet_columns import Group, InputLayout, JetColumns
from phaze_ee.data.loaders import TrainingLoader, training_loader
from phaze_ee.data.rows import SpanJets
from phaze_ee.data.spans import SpanReader
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError
from tests.data.small import jet_columns, schema
from tests.jetclass_files import write_root

LAYOUT = InputLayout(1, (Group("points", ("x",), (0,)), Group("features", ("x",), (0,)), Group("mask", ("x",), (0,))))
WEIGHTED = {"use_precomputed_weights": True, "weight_branches": ["jet_weight"]}


@dataclass
class Numbered:
    """Reads jets of one particle; the label of a jet is its number in all files."""

    weight_N: npt.NDArray[np.float32] | None

    def read(self, span: Span) -> SpanJets:
        number_N = torch.arange(span.start, span.stop)
        ones = [np.ones(len(number_N), dtype=np.float32)] * 3
        jets = JetColumns.of_rows(LAYOUT, ones, torch.ones_like(number_N), number_N, {})
        weight_N = None if self.weight_N is None else self.weight_N[span.start : span.stop]
        return SpanJets(jets, number_N.numpy(), weight_N)


def loader(
    files: Sequence[Sequence[int]],
    weights: npt.ArrayLike | None,
    rank: int = 0,
    ranks: int = 1,
    data_fraction: float = 1,
    file_fraction: float = 1,
) -> TrainingLoader:
    """Return a loader of files with spans of the given sizes."""
    weight_N = None if weights is None else np.asarray(weights, dtype=np.float32)
    ends = np.cumsum([size for sizes in files for size in sizes]).tolist()
    paths = [Path(f"file_{number}") for number, sizes in enumerate(files) for _ in sizes]
    spans = [Span(path, start, stop) for path, start, stop in zip(paths, [0, *ends], ends, strict=False)]
    counts = [span.stop - span.start for span in spans]
    sums = None if weight_N is None else [keep_probability(weight_N[s.start : s.stop]).sum() for s in spans]
    plan = EpochPlan.of_counts(spans, counts, sums)
    plan = replace(plan, data_fraction=data_fraction, file_fraction=file_fraction)
    reader = SpanReader(Numbered(weight_N), spans, num_workers=0)
    return TrainingLoader(plan, reader, batch_size=64, seed=1, rank=rank, world_size=ranks, keep=True)


def numbers(own: TrainingLoader, epoch: int, first_batch: int = 0) -> list[int]:
    own.set_epoch(epoch, first_batch)
    return [int(number) for batch in own for number in batch.label_N]


def counts(own: TrainingLoader, jets: int, epochs: int) -> npt.NDArray[np.int64]:
    """Return how often each jet comes in each epoch."""
    return np.stack([np.bincount(numbers(own, epoch), minlength=jets) for epoch in range(epochs)])


def test_a_class_of_small_weights_in_many_small_files_is_drawn() -> None:
    weight_N = np.r_[np.full(1000, 0.9), np.full(2000, 0.003)]
    drawn = counts(loader([[1000], *[[50]] * 40], weight_N), 3000, epochs=40)
    of_signal = drawn[:, 1000:].sum(axis=1)
    assert set(of_signal.tolist()) <= {17, 18, 19}, "3 copies of 2000 jets of weight 0.003"
    files = drawn[:, 1000:].sum(axis=0).reshape(40, 50).sum(axis=1)
    assert files.min() >= 8, "every file gives its 18 jets in 40 epochs"
    assert files.max() <= 30


def weaver_counts(weight_N: npt.NDArray[np.float32], draws: int) -> npt.NDArray[np.int64]:
    np.random.seed(0)  # noqa: NPY002 - weaver draws with it
    return np.stack([np.bincount(_get_reweight_indices(weight_N), minlength=len(weight_N)) for _ in range(draws)])


@pytest.mark.parametrize("weights", [(0.05, 0.05), (0.3, 0.02), (1.7, 0.11), (0.6, 0.0)])
def test_mean_and_variance_against_weaver(weights: tuple[float, float]) -> None:
    weight_N = np.tile(np.array(weights, dtype=np.float32), 150)  # the classes alternate
    is_first_N = np.arange(300) % 2 == 0
    drawn, theirs = counts(loader([[50], [50, 50], [150]], weight_N), 300, 300), weaver_counts(weight_N, 300)
    expected_N = repeats(keep_probability(weight_N).sum(), 300) * keep_probability(weight_N)
    scale = len(numbers(loader([[300]], weight_N), 0)) / expected_N.sum()
    assert scale == pytest.approx(1, abs=0.05)
    assert set(drawn.sum(axis=1)) == {round(expected_N.sum())}, "an epoch has always as many jets"
    assert (np.abs(drawn - scale * expected_N) < 1 + 1e-9).all(), "one of the two integers around the expected number"
    for class_N in (is_first_N, ~is_first_N):
        ours, weavers = drawn[:, class_N].sum(axis=1), theirs[:, class_N].sum(axis=1)
        assert ours.mean() == pytest.approx(expected_N[class_N].sum(), rel=0.06, abs=0.01)
        assert ours.mean() == pytest.approx(weavers.mean(), rel=0.1, abs=0.01)
        assert ours.var() <= 1.1 * weavers.var() + 0.5, "0.5: the length of the epoch is rounded"
        assert drawn[:, class_N].var(axis=0).mean() <= 1.02 * theirs[:, class_N].var(axis=0).mean() + 0.01
    np.testing.assert_allclose(drawn.mean(axis=0), expected_N, atol=0.16)


@settings(max_examples=30, deadline=None)
@given(
    files=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=3), min_size=1, max_size=6),
    weighted=st.booleans(),
    data_fraction=st.sampled_from([1, 0.5, 0.13]),
    file_fraction=st.sampled_from([1, 0.6]),
    ranks=st.integers(1, 3),
    epoch=st.integers(0, 3),
    data=st.data(),
)
def test_ranks_and_resuming_see_the_same_draws(
    files: list[list[int]],
    weighted: bool,
    data_fraction: float,
    file_fraction: float,
    ranks: int,
    epoch: int,
    data: st.DataObject,
) -> None:
    jets = sum(map(sum, files))
    weights = np.random.default_rng(jets).exponential(0.3, jets) if weighted else None
    alone = loader(files, weights, 0, 1, data_fraction, file_fraction)
    whole = sorted(numbers(alone, epoch))
    assert len(whole) == alone.jet_count
    if not weighted:
        assert len(whole) == len(set(whole)) == int(jets * data_fraction * file_fraction + 1e-6)
    if len(whole) < 2 * ranks:
        return
    seen: list[int] = []
    for rank in range(ranks):
        own = loader(files, weights, rank, ranks, data_fraction, file_fraction)
        mine = numbers(own, epoch)
        first = data.draw(st.integers(0, len(own) - 1))
        assert numbers(own, epoch, first) == mine[64 * first :]
        seen += mine
    left_out = len(whole) - len(seen)
    assert 0 <= left_out < ranks
    many, few = np.bincount(whole, minlength=jets), np.bincount(seen, minlength=jets)
    assert (few <= many).all()
    assert (many - few).sum() == left_out


def test_data_fraction_takes_neighbours_of_every_file_and_all_in_turn() -> None:
    own = loader([[10] * 10, [100], [10] * 10], None, data_fraction=0.2)
    epochs = [np.array(numbers(own, epoch)) for epoch in range(60)]
    for jets in epochs:
        assert np.abs(np.bincount(jets // 100, minlength=3) - 20).max() <= 1, "the same part of every file"
        assert len({number // 10 for number in jets if number < 100}) <= 3, "three of ten spans are read"
    assert len(set(np.concatenate(epochs).tolist())) == 300


@pytest.mark.parametrize("sizes", [[20] * 10, [5, 35] * 5])
def test_file_fraction_takes_some_files_and_all_in_turn(sizes: list[int]) -> None:
    own, size_F = loader([[size] for size in sizes], None, file_fraction=0.3), np.array(sizes)
    file_N = np.repeat(np.arange(10), sizes)
    drawn = np.stack([np.bincount(file_N[numbers(own, epoch)], minlength=10) for epoch in range(60)])
    assert set(drawn.sum(axis=1).tolist()) == {60}
    assert (drawn <= size_F).all()
    in_part = ((drawn > 1) & (drawn < size_F - 1)).sum(axis=1)  # a jet at the edge may be the next file's
    assert in_part.max() <= 2, "the others are there as a whole or not at all"
    assert (drawn.mean(axis=0) / size_F).min() > 0.15, "0.3 on average"


def test_weights_of_zero_are_told_from_small_ones(tmp_path: Path) -> None:
    def files(weight: float) -> list[Path]:
        columns = [{**jet_columns(10, seed), "jet_weight": np.full(10, weight)} for seed in range(3)]
        return [write_root(tmp_path / f"{seed}_{weight}.root", own) for seed, own in enumerate(columns)]

    own = schema(observers=None, weights=WEIGHTED)
    with pytest.raises(DataError, match=r"every jet of .*0_0\.root and 2 more files has sampling weight 0"):
        training_loader(own, files(0), batch_size=4, num_workers=0, seed=1)
    with pytest.raises(DataError, match=r"an epoch has 0 for 1: the sampling weights of 30 jets add up to 0\.03, and"):
        training_loader(own, files(0.001), batch_size=4, num_workers=0, seed=1)
    assert training_loader(own, files(0.01), batch_size=4, num_workers=0, seed=1).jet_count == 3


def test_few_jets_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files, few = [write_root(tmp_path / "jets.root", jet_columns(30))], {"batch_size": 20, "num_workers": 0, "seed": 1}
    for fractions in ({"data_fraction": 0.05}, {"file_fraction": 0.1, "data_fraction": 0.5}):
        with pytest.raises(DataError, match=r"1 for 1 \(of 30 in the files\); raise data_fraction or file_fraction"):
            training_loader(schema(), files, **few, **fractions)  # type: ignore[arg-type]
    with caplog.at_level("INFO"):
        training_loader(schema(), files, **few)  # type: ignore[arg-type]
        assert not caplog.messages
        assert training_loader(schema(), files, **few, rank=1, world_size=2).jet_count == 15  # type: ignore[arg-type]
    assert caplog.messages == ["batch_size 20 exceeds the 15 jets of a process in an epoch: one smaller batch"]


def test_spans_of_weight_zero_among_others_give_no_jets() -> None:
    own = loader([[20], [20, 20]], np.repeat([0.5, 0, 0.5], 20))
    for epoch in range(5):
        assert {number // 20 for number in numbers(own, epoch)} == {0, 2}


@given(weights=st.lists(st.sampled_from([0, 0, 0.1, 0.7, 1.3]), min_size=1, max_size=9), seed=st.integers(0, 9))
def test_a_jet_of_weight_zero_is_not_drawn_even_at_the_ends(weights: list[float], seed: int) -> None:
    weight_N = np.array(weights)
    if weight_N.any():
        drawn_M = resample(weight_N, np.linspace(0, 1, 11), np.random.default_rng(seed))
        assert (weight_N[drawn_M] > 0).all()
        assert len(drawn_M) == 11


def test_the_cache_draws_as_the_files_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "BLOCK_JETS", 7)
    monkeypatch.setattr(build, "SHARD_ROWS", 25)
    monkeypatch.setattr(loaders, "TRAINING_ROWS", 8)
    weight_N = np.where(np.arange(60) < 20, 0.9, 0.02)
    path = write_root(tmp_path / "jets.root", {**jet_columns(60), "jet_weight": weight_N})
    own = schema(observers=None, monitor_variables=["jet_index"], weights=WEIGHTED)
    cache = build_cache(tmp_path / "cache", Job(own, own, [path], training=True))
    for source in (None, cache):
        made = training_loader(own, [path], batch_size=20, num_workers=0, seed=1, cache=source)
        assert made.jet_count == round(3 * (18 + 0.8))
        rare = []
        for epoch in range(40):
            made.set_epoch(epoch)
            rare += [int((batch.observers["jet_index"].astype(int) >= 20).sum()) for batch in made]
        assert sum(rare) / 40 == pytest.approx(2.4, abs=0.6)


@pytest.mark.parametrize("sizes", [[5] * 8, [5, 10] * 4])
def test_spans_of_every_file_and_of_neighbours_are_spread_evenly_over_an_epoch(sizes: list[int]) -> None:
    count_F, total = np.array(sizes), sum(sizes)
    file_S = np.repeat(np.arange(8), count_F)
    spans = [Span(Path(f"file_{file}"), part, part + 1) for file in range(8) for part in range(count_F[file])]
    plan = EpochPlan.of_counts(spans, [1] * total, None)
    orders = np.array([plan.order(np.random.default_rng(seed)) for seed in range(50)])
    assert (np.sort(orders) == np.arange(total)).all()
    seen = np.cumsum(np.eye(8)[file_S[orders]], axis=1)  # spans of each file up to each place
    ahead = seen - np.arange(1, total + 1)[:, None] / total * count_F
    assert np.abs(ahead).max() < 1, "one span more or less than its share"
    assert np.abs(ahead[:, :, :4].sum(axis=2)).max() < 1.8, "the files of a class often follow each other"
    assert len({tuple(order) for order in orders.tolist()}) == 50
