"""Converts files of jets into a cache, shard by shard, in one process or several.

The rows of a shard, and their order, depend on the files and the data configuration alone. An interrupted build
therefore continues with the missing shards, and two builds at the same time write the same files.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import numpy as np

from phaze_ee.atomic import remove_abandoned, replacing
from phaze_ee.data.bad_values import said
from phaze_ee.data.batches import Shuffled, recut
from phaze_ee.data.cache import shards
from phaze_ee.data.cache.reader import MANIFEST, VERSION, Cache, Contents, cache_folder, cache_key, read_manifest
from phaze_ee.data.cache.shards import WEIGHT, Shard, describe_shard, write_shard
from phaze_ee.data.epochs import EpochPlan
from phaze_ee.data.jet_columns import JetColumns
from phaze_ee.data.row_spans import split_into_spans
from phaze_ee.data.rows import RowReader, SpanJets
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.spans import worker_context
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError, RunError

logger = logging.getLogger(__name__)

SHARD_ROWS = 40_000  # in the memory of each process, twice while they are joined: 350 MB for 40 particles per jet
TRAINING_ROWS = 1_000  # read at a time from one file, so that a shard for training mixes 40 places
EVALUATION_ROWS = 5_000  # read at a time


@dataclass(frozen=True)
class Job:
    """What to convert.

    Attributes:
        schema: the data configuration; for training, as the YAML has it.
        resolved: the same, with standardisation and reweighting computed from the training files.
        files: the files, in the order of reading.
        training: convert for training: shuffled, with sampling weights, without observers.
        labelled: keep the labels.
    """

    schema: DataSchema
    resolved: DataSchema
    files: Sequence[Path]
    training: bool
    labelled: bool = True

    @property
    def key(self) -> str:
        """The key of the cache, see :func:`cache_key`."""
        return cache_key(self.schema, self.files, training=self.training, labelled=self.labelled)


@dataclass(frozen=True)
class _Task:
    """One shard to write; ``known`` is its entry in an earlier manifest."""

    path: Path
    reader: RowReader
    spans: Sequence[Span]
    number: int
    block_jets: int
    key: str
    known: Shard | None

    @property
    def row_count(self) -> int:
        return sum(span.stop - span.start for span in self.spans)


def build_cache(
    root: Path, job: Job, *, workers: int = 1, advance: Callable[[int, int], None] = lambda done, total: None
) -> Cache:
    """Write the cache of a job; shards that exist and are complete stay.

    Args:
        root: the folder of all caches.
        job: what to convert.
        workers: processes that convert; 1: this process does.
        advance: called after each shard with the number of converted rows and the number of all rows.

    Raises:
        DataError: a file cannot be used or changes during the conversion, or no jet passes the selection.
        RunError: a shard cannot be written, or a process dies.
    """
    key = job.key
    folder = cache_folder(root, key, training=job.training)
    remove_abandoned(folder)
    tasks = _tasks(job, folder, key)
    total, done, written = sum(task.row_count for task in tasks), 0, []
    for task, shard in zip(tasks, _run(tasks, workers), strict=True):
        written.append(shard)
        done += task.row_count
        advance(done, total)
    if not sum(shard.jets for shard in written):
        selection = job.resolved.weaver.selection if job.training else job.resolved.weaver.test_time_selection
        raise DataError(f"no jet of {job.files[0]} … passes the selection {selection!r}; loosen it")
    if job.key != key:
        raise DataError(f"a file of {job.files[0]} … changed while it was converted; convert again")
    manifest = Contents(
        version=VERSION,
        key=key,
        training=job.training,
        labelled=job.labelled,
        block_jets=shards.BLOCK_JETS,
        options=job.resolved.options,
        files=[str(path) for path in job.files],
        shards=written,
    ).sealed()
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest.model_dump(), indent=1), encoding="utf-8")
    if text := said(shard.bad for shard in written):
        logger.warning("%s", text)
    return Cache(folder, manifest, job.schema.trusted, job.schema.bad_values)


def _tasks(job: Job, folder: Path, key: str) -> list[_Task]:
    reader = RowReader(job.resolved, training=job.training, labelled=job.labelled)
    known = {shard.name: shard for shard in _earlier(folder)}
    groups: list[list[Span]] = []
    rows = SHARD_ROWS
    for span in _spans(job):
        if rows >= SHARD_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(span)
        rows += span.stop - span.start
    paths = [folder / f"shard_{number:05d}.arrow" for number in range(len(groups))]
    return [
        _Task(path, reader, spans, number, shards.BLOCK_JETS, key, known.get(path.name))
        for number, (path, spans) in enumerate(zip(paths, groups, strict=True))
    ]


def _spans(job: Job) -> list[Span]:
    """Return the rows in the order of the shards; for training, each shard has its share of every file."""
    if not job.training:
        return split_into_spans(job.resolved, job.files, EVALUATION_ROWS, as_packed=True)
    spans = split_into_spans(job.resolved, job.files, TRAINING_ROWS)
    counts = [span.stop - span.start for span in spans]
    order = EpochPlan.of_counts(spans, counts, None).order(np.random.default_rng(0))
    return [spans[index] for index in order]


def _earlier(folder: Path) -> list[Shard]:
    if not (folder / MANIFEST).is_file():
        return []
    try:
        return read_manifest(folder).shards
    except DataError:
        return []  # damaged: it is written again


def _run(tasks: Sequence[_Task], workers: int) -> Iterator[Shard]:
    if min(workers, len(tasks)) <= 1:
        yield from map(_shard, tasks)
        return
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=worker_context()) as pool:
        try:
            yield from pool.map(_shard, tasks)
        except BrokenProcessPool as error:
            raise RunError(
                "a process that converts data died, often for lack of memory; lower --workers and convert again: "
                "complete shards are kept"
            ) from error


def _same(known: Shard | None, found: Shard) -> bool:
    """Return whether a shard is the one that is known; caches of older versions do not know its classes."""
    return known is None or known.model_copy(update={"classes": found.classes}) == found


def _shard(task: _Task) -> Shard:
    """Write a shard, unless it exists unchanged."""
    if task.path.is_file():
        try:
            found = describe_shard(task.path, task.key)
        except DataError:
            found = None  # damaged: it is written again
        if found is not None and _same(task.known, found):
            return found
    parts, bad = [], Counter[str]()
    for span in task.spans:
        part = task.reader.read(span)
        parts.append(_with_weights(part))
        bad.update(part.bad)
    jets = JetColumns.concatenate(parts)
    del parts  # the jets are in memory twice already
    mixed = Shuffled.by(np.random.default_rng(task.number), jets) if task.reader.training else jets
    write_shard(task.path, recut([mixed], repeat(task.block_jets)), task.key, bad)
    return describe_shard(task.path, task.key)


def _with_weights(found: SpanJets) -> JetColumns:
    """Return the jets with their sampling weights among the observers, so that they are shuffled and cut together."""
    if found.weight_N is None:
        return found.jets
    return replace(found.jets, observers={**found.jets.observers, WEIGHT: found.weight_N})
