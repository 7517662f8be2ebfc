"""Loaders of stored features, in place of those of jets."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from phaze_ee.data.chunks import ahead
from phaze_ee.models.tagger import Tagger
from phaze_ee.training.features import CachedBatch, FeatureFiles, Features
from phaze_ee.types import JetBatch

_GB = 1e9


@dataclass(frozen=True)
class Loaders:
    """The two loaders of a training, see :mod:`phaze_ee.data.loaders`."""

    train: Any
    val: Any


@dataclass(frozen=True)
class _CachedTraining:
    """The batches of a training loader, epoch for epoch the same jets."""

    features: Features
    numbers: Any  # see TrainingLoader.numbered

    @property
    def jet_count(self) -> int:
        return int(self.numbers.jet_count)

    def __len__(self) -> int:
        return len(self.numbers)

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        self.numbers.set_epoch(epoch, first_batch)

    def __iter__(self) -> Iterator[CachedBatch]:
        return ahead(self.features.batch(numbers.label_N) for numbers in self.numbers)


@dataclass(frozen=True)
class _CachedValidation:
    """Batches as they were stored one after the other."""

    features: Features
    first: int
    sizes: list[int]

    def __iter__(self) -> Iterator[CachedBatch]:
        index_N = torch.arange(self.first, self.first + sum(self.sizes))
        return ahead(map(self.features.batch, torch.split(index_N, self.sizes)))


@contextmanager
def cached(
    tagger: Tagger, loaders: Loaders, folder: Path, limit_gb: float, console: Console
) -> Iterator[tuple[Tagger, Loaders]]:
    """Yield a tagger that shares the exits, and loaders that give it features of the backbone, computed once.

    Above ``limit_gb``, both are those that were given, and the console says so.

    Args:
        tagger: its backbone is frozen, and stays as it is.
        loaders: training and validation jets.
        folder: where files without names keep the features.
        limit_gb: how many GB (1e9 bytes) they may take.
        console: where the progress is shown.

    Raises:
        RunError: the features cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with FeatureFiles(tagger, folder) as files:
        jets, numbers = loaders.train.numbered()
        sizes = _compute(files, jets, loaders, limit_gb * _GB, console)
        if sizes is None:
            console.print(
                f"The backbone's features would take more than feature_cache_gb = {limit_gb:g} GB: they are computed "
                "in every epoch. Raise it to have them computed once",
                soft_wrap=True,
            )
            yield tagger, loaders
            return
        features = files.finish()
        console.print(
            f"Features of the frozen backbone for {len(files):,} jets: {files.size / _GB:.2f} GB, "
            f"{time.monotonic() - start:.0f} s, computed once",
            soft_wrap=True,
        )
        validation = _CachedValidation(features, len(files) - sum(sizes), sizes)
        yield features.tagger, Loaders(_CachedTraining(features, numbers), validation)


def _compute(
    files: FeatureFiles, jets: Iterable[JetBatch], loaders: Loaders, limit: float, console: Console
) -> list[int] | None:
    """Fill the files; return the sizes of the validation batches, or None if more than ``limit`` bytes are needed."""
    total = loaders.train.selected_count
    sizes: list[int] = []
    with _progress(console) as progress:
        for batch in _counted(ahead(jets), progress, "features of training jets", total):
            files.add(batch)
            if files.size * total > limit * len(files):
                return None
        for batch in _counted(ahead(loaders.val), progress, "features of validation jets", None):
            files.add(batch)
            sizes.append(len(batch))
            if files.size > limit:
                return None
    return sizes


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=12), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _counted(batches: Iterable[JetBatch], progress: Progress, title: str, total: int | None) -> Iterator[JetBatch]:
    task = progress.add_task(title, total=total)
    for batch in batches:
        if len(batch):
            yield batch
        progress.advance(task, len(batch))
