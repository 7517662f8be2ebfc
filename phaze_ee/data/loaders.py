"""Loaders of jets: every jet once in order for evaluation, and shuffled epochs for training."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import accumulate, repeat
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from phaze_ee.data import batches
from phaze_ee.data.batches import Shuffled, batch_sizes, recut
from phaze_ee.data.cache.reader import Cache
from phaze_ee.data.cache.shards import ShardReader
from phaze_ee.data.epochs import MAX_REPEATS, Draws, EpochPlan, resample
from phaze_ee.data.file_part import WHOLE
from phaze_ee.data.jet_columns import JetColumns
from phaze_ee.data.row_spans import files_of, split_into_spans
from phaze_ee.data.rows import RowReader, SpanJets
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.spans import SpanReader
from phaze_ee.data.stamps import changed, unchanged
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError
from phaze_ee.shapes import Int
from phaze_ee.types import JetBatch

logger = logging.getLogger(__name__)

EVALUATION_ROWS = 5_000  # rows read at a time: 20 MB of inputs of 40 particles
TRAINING_ROWS = 1_000  # fewer, so that a pool of shuffled jets mixes many files
MEMORY_LIMIT = 2_000_000_000  # bytes of padded jets; smaller data sets are kept in memory from epoch to epoch


def evaluation_loader(
    schema: DataSchema,
    files: Sequence[Path],
    *,
    batch_size: int,
    num_workers: int = 0,
    labelled: bool = True,
    cache: Cache | None = None,
) -> Iterable[JetBatch]:
    """Return an iterable over every jet of the files that passes ``test_time_selection``, once, in input order.

    It can be walked several times. It holds a few spans of ``EVALUATION_ROWS`` rows per worker in memory.

    Args:
        schema: the data configuration.
        files: the files, in the order of reading.
        batch_size: jets per batch; the last batch may be smaller.
        num_workers: processes that read ahead; 0: this process reads.
        labelled: False if the files have no labels; ``label_N`` is then -1.
        cache: the converted jets of these files, which are read instead.

    Raises:
        DataError: a file cannot be used (also while iterating), or no jet passes the selection.
    """
    if cache is not None:
        return _InOrder(SpanReader(cache.reader, cache.spans, num_workers), len(cache.spans), batch_size, "")
    reader = RowReader(schema, training=False, labelled=labelled)
    spans = split_into_spans(schema, files, EVALUATION_ROWS, as_packed=True, check=reader.check)
    nothing = f"no jet of {files_of(spans)} passes the selection {reader.selection!r}; loosen it"
    return _InOrder(SpanReader(reader, spans, num_workers), len(spans), batch_size, nothing)


@dataclass(frozen=True)
class _InOrder:
    spans: SpanReader
    span_count: int
    batch_size: int
    nothing: str  # the message if there are no jets; a cache always has some

    def __iter__(self) -> Iterator[JetBatch]:
        jets = (found.jets for found in self.spans.read(range(self.span_count)) if len(found))
        empty = True
        for piece in recut(jets, repeat(self.batch_size)):
            empty = False
            yield piece.batch()
        if empty:
            raise DataError(self.nothing)


class TrainingLoader:
    """Shuffled batches of jets; one pass is an epoch.

    Every jet comes exactly once per epoch, or as often as its weight says if the data configuration has weights. The
    batches depend on seed, epoch, rank and ``world_size`` alone, not on the number of workers. All ranks get equally
    many jets and batches. The few jets that do not divide, fewer than there are ranks, are left out; they are other
    jets in each epoch.

    The spans of an epoch come in random order. The jets of a rank are shuffled in pools of ``POOL_JETS``, one after the
    other, so that a walk can begin at any batch and reads nothing before the pool of that batch.

    Args:
        plan: the spans and the jets that each gives in an epoch.
        spans: reads the spans of the plan.
        batch_size: jets per batch.
        seed: the seed of the shuffling.
        rank: the number of this process, from 0.
        world_size: the number of processes that share an epoch.
        keep: keep all spans in memory once they are read.

    Attributes:
        jet_count: jets per epoch of this rank.
    """

    def __init__(
        self,
        plan: EpochPlan,
        spans: SpanReader,
        *,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        keep: bool,
    ) -> None:
        self.jet_count = plan.jet_count // world_size
        self._plan, self._spans = plan, spans
        self._sizes = batch_sizes(self.jet_count, batch_size)
        self._seed, self._rank, self._epoch, self._first_batch = seed, rank, 0, 0
        self._kept: dict[int, SpanJets] | None = {} if keep else None

    @property
    def selected_count(self) -> int:
        """Jets of the files that pass the selection, on all ranks together."""
        return sum(self._plan.selected)

    def numbered(self) -> tuple[Iterator[JetBatch], "TrainingLoader"]:
        """Return every jet of the files once, in order, and a loader of the same epochs with numbers for jets.

        A batch of this loader has no particles, and its ``label_N`` are the positions of its jets in that order. With
        these a caller finds again what it computed for each jet. Walk all jets first.
        """
        kept: dict[int, SpanJets] = {}
        twin = copy(self)
        twin._kept = kept
        return self._number(kept), twin

    def _number(self, kept: dict[int, SpanJets]) -> Iterator[JetBatch]:
        first = 0
        for index, found in enumerate(self._spans.read(range(len(self._plan.spans)))):
            self._check_unchanged(index, found)
            yield found.jets.batch()
            position_N = torch.arange(first, first + len(found))
            kept[index] = replace(found, jets=_without_particles(found.jets, position_N))
            first += len(found)

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self._sizes)

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch (0, 1, …) of the next walks, and the batch that they begin with."""
        self._epoch, self._first_batch = epoch, first_batch

    def __iter__(self) -> Iterator[JetBatch]:
        pool_jets = batches.POOL_JETS
        first_pool, skipped = divmod(sum(self._sizes[: self._first_batch]), pool_jets)
        sizes = self._sizes[self._first_batch :]
        jets = recut(self._pools(first_pool, pool_jets), [skipped, *sizes] if skipped else sizes)
        if skipped:
            next(jets, None)
        return (piece.batch() for piece in jets)

    def _pools(self, first: int, pool_jets: int) -> Iterator[Shuffled]:
        pools = recut(self._share(first * pool_jets), repeat(pool_jets))
        for number, jets in enumerate(pools, first):
            yield Shuffled.by(np.random.default_rng([self._seed, self._epoch, self._rank, number]), jets)

    def _share(self, skipped: int) -> Iterator[JetColumns]:
        """Yield this rank's jets of the epoch, without the first ``skipped``: a stretch of the order of all ranks."""
        order = self._plan.order(np.random.default_rng([self._seed, self._epoch]))
        # Other numbers than [seed, epoch] and [seed, epoch, rank, number], which are other streams.
        draws = self._plan.draws(np.random.default_rng([self._seed, self._epoch, 0, 0, 1]))
        drawn = draws.count_S[order].tolist()
        first, last = self._rank * self.jet_count + skipped, (self._rank + 1) * self.jet_count
        own = [
            (index, max(first - end + count, 0), min(last - end, 0) + count)
            for index, count, end in zip(order, drawn, accumulate(drawn), strict=True)
            if end > first and end - count < last and count
        ]
        for (index, start, stop), found in zip(own, self._read([index for index, _, _ in own]), strict=True):
            yield self._drawn(index, found, draws).take(slice(start, stop))

    def _read(self, indices: Sequence[int]) -> Iterator[SpanJets]:
        kept = self._kept if self._kept is not None else {}
        fresh = self._spans.read([index for index in indices if index not in kept])
        for index in indices:
            if index in kept:
                yield kept[index]
                continue
            found = next(fresh)
            self._check_unchanged(index, found)
            if self._kept is not None:
                self._kept[index] = found
            yield found

    def _drawn(self, index: int, found: SpanJets, draws: Draws) -> JetColumns:
        if self._plan.takes_every_jet:
            return found.jets
        weight_N = np.ones(len(found)) if found.weight_N is None else found.weight_N
        rng = np.random.default_rng([self._seed, self._epoch, index, 0, 2])
        return found.jets.take(torch.from_numpy(resample(weight_N, draws.positions(index), rng)))

    def _check_unchanged(self, index: int, found: SpanJets) -> None:
        if len(found) != self._plan.selected[index]:
            raise changed(self._plan.spans[index].path)


def _without_particles(jets: JetColumns, label_N: Int[Tensor, " N"]) -> JetColumns:
    layout = replace(jets.collections[0].layout, length=0)
    nothing = [np.empty(0, dtype=np.float32) for _ in layout.names]
    return JetColumns.of_rows(layout, nothing, torch.zeros_like(label_N), label_N, {})


def training_loader(
    schema: DataSchema,
    files: Sequence[Path],
    *,
    batch_size: int,
    num_workers: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    data_fraction: float = 1,
    file_fraction: float = 1,
    cache: Cache | None = None,
) -> TrainingLoader:
    """Return shuffled batches for training. Without a cache, data of at most 2 GB are read once and kept in memory.

    Args:
        schema: the data configuration.
        files: the files, in any order.
        batch_size: jets per batch; the last batch of an epoch may be smaller, or larger by one.
        num_workers: processes that read ahead; 0: this process reads.
        seed: the seed of the shuffling.
        rank: the number of this process, from 0.
        world_size: the number of processes that share an epoch.
        data_fraction: the part of the jets of each file that an epoch uses, see :class:`EpochPlan`.
        file_fraction: the part of the files that an epoch uses.
        cache: the converted jets of these files, which are read instead. Its files are the shards of the cache.

    Raises:
        DataError: a file cannot be used (also while iterating), no jet passes the selection, or an epoch has fewer than
            two jets for each rank.
    """
    reader: RowReader | ShardReader
    if cache is None:
        reader = RowReader(schema, training=True)
        with unchanged(files):
            spans = split_into_spans(schema, files, TRAINING_ROWS, check=reader.check)
            plan = EpochPlan.make(reader, spans)
            of_classes = None if rank else _jets_of_classes(reader, plan.spans, len(schema.class_names))
    else:
        reader, plan, of_classes = cache.reader, cache.plan(), cache.jets_of_classes()
    if rank == 0 and of_classes is not None:
        _warn_of_empty_classes(of_classes, schema)
    plan = replace(plan, data_fraction=data_fraction, file_fraction=file_fraction)
    if plan.jet_count < 2 * world_size:
        raise DataError(_too_few(plan, world_size))
    if batch_size > (own := plan.jet_count // world_size):
        whose = "an epoch" if world_size == 1 else "a process in an epoch"
        logger.info("batch_size %d exceeds the %d jets of %s: one smaller batch", batch_size, own, whose)
    return TrainingLoader(
        plan,
        SpanReader(reader, plan.spans, num_workers),
        batch_size=batch_size,
        seed=seed,
        rank=rank,
        world_size=world_size,
        keep=cache is None and sum(plan.selected) * schema.bytes_per_jet <= MEMORY_LIMIT,
    )


def _jets_of_classes(reader: RowReader, spans: Sequence[Span], class_count: int) -> list[int]:
    """Count the jets of each class. No more is read once each class has some.

    The spans are read in a random order, since files often hold one class each.
    """
    count_K = np.zeros(class_count, dtype=np.int64)
    for index in np.random.default_rng(0).permutation(len(spans)):
        count_K += np.bincount(reader.classes(spans[index]), minlength=class_count)
        if count_K.all():
            break
    counts: list[int] = count_K.tolist()
    return counts


def missing_classes(schema: DataSchema, files: Sequence[Path]) -> list[str]:
    """Return the classes of which an evaluation of some files finds no jet. Little is read if there is none.

    Raises:
        DataError: a file cannot be used.
    """
    reader = RowReader(schema, training=False)
    counts = _jets_of_classes(reader, split_into_spans(schema, files, EVALUATION_ROWS), len(schema.class_names))
    return [name for name, count in zip(schema.class_names, counts, strict=True) if not count]


def _warn_of_empty_classes(jets: Sequence[int], schema: DataSchema) -> None:
    counts = dict(zip(schema.class_names, jets, strict=True))
    if all(jets):
        return
    remedy = "add training files, or remove these labels from the data config"
    if schema.part != WHOLE:
        remedy = "if their other rows do, give c.val_files: these files cannot be divided by rows"
    logger.warning(
        "the training files hold no jets of %s%s (jets: %s): the network learns that no jet is of these; %s",
        ", ".join(name for name, count in counts.items() if not count),
        schema.part.of_rows,
        ", ".join(f"{name} {count:,}" for name, count in counts.items() if count),
        remedy,
    )


def _too_few(plan: EpochPlan, world_size: int) -> str:
    found = f"training needs two jets per process, an epoch has {plan.jet_count} for {world_size}"
    if plan.data_fraction * plan.file_fraction < 1:
        return f"{found} (of {sum(plan.selected):,} in the files); raise data_fraction or file_fraction"
    if plan.weight_sums is None:
        return f"{found}; add training files"
    return (
        f"{found}: the sampling weights of {sum(plan.selected):,} jets add up to {sum(plan.weight_sums):.3g}, and none "
        f"is drawn more than {MAX_REPEATS} times; multiply the weights by a number"
    )
