"""Features of a frozen backbone: computed once, kept in files, and looked up in every epoch."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Self, final

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from phaze_ee.data.row_spans import ahead
from phaze_ee.engine.engine import Engine
from phaze_ee.errors import RunError
from phaze_ee.models.frozen import FrozenBackbone, FrozenJets
from phaze_ee.models.tagger import Tagger
from phaze_ee.shapes import Float, Int
from phaze_ee.slots import ragged_rows
from phaze_ee.training.loaders import Feed, Loaders, MadeAhead
from phaze_ee.types import JetBatch, Jets, State

_GB = 1e9


@final
@dataclass(frozen=True)
class FeatureBatch:
    """A batch of jets as :class:`phaze_ee.types.JetBatch`, with stored features in place of inputs."""

    inputs: FrozenJets
    label_N: Int[Tensor, " N"]
    target_NR: Float[Tensor, "N R"] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the batch with ``change`` applied to every tensor."""
        target_NR = None if self.target_NR is None else change(self.target_NR)
        return replace(self, inputs=self.inputs.map(change), label_N=change(self.label_N), target_NR=target_NR)


@final
@dataclass(frozen=True)
class Features:
    """Stored features of jets, in the order in which these came.

    Each column holds the particles of all jets at one stage; those of a jet follow each other from ``first_N`` on.
    """

    tagger: Tagger  # takes FrozenJets, and shares its exits with the tagger that the features are of
    columns: tuple[Float[Tensor, "V _"], ...]
    first_N: Int[Tensor, " N"]
    count_N: Int[Tensor, " N"]
    logits_NK: Float[Tensor, "N K"]  # and the outputs for targets
    label_N: Int[Tensor, " N"]
    target_NR: Float[Tensor, "N R"] | None

    def batch(self, index_N: Int[Tensor, " N"]) -> FeatureBatch:
        """Return the jets at some positions."""
        count_N = self.count_N[index_N]
        row_V = ragged_rows(self.first_N[index_N], count_N)
        rows = tuple(column_VC.index_select(0, row_V) for column_VC in self.columns)
        target_NR = None if self.target_NR is None else self.target_NR[index_N]
        return FeatureBatch(FrozenJets(rows, count_N, self.logits_NK[index_N]), self.label_N[index_N], target_NR)


class FeatureFiles:
    """Computes the features of jets at the stages with an exit, and writes them: a context manager.

    They are unlinked temporary files, so none remain however the program ends.

    Args:
        tagger: its backbone is run in the form and on the device that it has, in evaluation mode, on all cores.
        folder: where the files lie; it must exist.
    """

    def __init__(self, tagger: Tagger, folder: Path) -> None:
        self.tagger, self.folder = tagger, folder
        # Where exit heads sit, the walk yields the features themselves.
        self._recorder = Tagger(
            tagger.backbone, tagger.exit_stages, heads=nn.ModuleList(_Rows() for _ in tagger.exit_stages)
        ).eval()
        self._engine = Engine(self._recorder, threads=torch.get_num_threads(), backend="given")
        self._stack = ExitStack()
        files = (TemporaryFile(dir=folder, buffering=0) for _ in tagger.exit_stages)  # noqa: SIM115 - the stack closes
        self._files = list(map(self._stack.enter_context, files))
        self._channels = [1] * len(self._files)
        self._parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # first_N, count_N, … of Features
        self._targets: list[Tensor] = []
        self._particles = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self._stack.close()

    def __len__(self) -> int:
        return sum(len(first_N) for first_N, *_ in self._parts)

    @property
    def size(self) -> int:
        """The bytes written so far."""
        return 4 * self._particles * sum(self._channels)

    def add(self, batch: JetBatch) -> None:
        """Compute and write the features of more jets.

        Raises:
            RunError: they cannot be written.
        """
        device = next(self.tagger.backbone.parameters()).device
        order_N, chunks = self._engine.in_chunks(batch.inputs.to(device), self._walk)
        for *rows, _ in chunks:
            self._write(rows)
        count_N = batch.inputs.total_count_N.cpu()
        written_N = count_N[order_N.cpu()]
        jet_N = order_N.argsort().cpu()  # where each jet stands in the chunks
        first_N = (self._particles + written_N.cumsum(0) - written_N)[jet_N]
        logits_NK = torch.cat([logits_NK for *_, logits_NK in chunks]).cpu()[jet_N]
        self._parts.append((first_N, count_N, logits_NK, batch.label_N.cpu()))
        self._targets += [] if batch.target_NR is None else [batch.target_NR.cpu()]
        self._particles += int(count_N.sum())

    def _walk(self, jets: Jets) -> list[Tensor]:
        return [exit_.logits_NK.cpu() for exit_ in self._recorder.walk(jets)]

    def _write(self, rows: list[Tensor]) -> None:
        self._channels = [row_VC.shape[1] for row_VC in rows]
        try:
            for file, row_VC in zip(self._files, rows, strict=True):
                _write_all(file, row_VC.float().contiguous().numpy().reshape(-1).view(np.uint8).data)
        except OSError as error:
            raise RunError(
                f"cannot keep features in {self.folder}: {error.strerror or error}; free space, or set "
                "feature_cache_gb = 0, and they are computed in every epoch"
            ) from error

    def finish(self) -> Features:
        """Return what was written, mapped into memory; valid until the files are closed."""
        columns = tuple(map(self._map, self._files, self._channels))
        first_N, count_N, logits_NK, label_N = map(torch.cat, zip(*self._parts, strict=True))
        tagger = self.tagger.with_backbone(FrozenBackbone(self.tagger.backbone, self.tagger.exit_stages))
        target_NR = torch.cat(self._targets) if self._targets else None
        return Features(tagger, columns, first_N, count_N, logits_NK, label_N, target_NR)

    def _map(self, file: IO[bytes], channels: int) -> Float[Tensor, "V _"]:
        if self._particles == 0:
            return torch.empty(0, channels)  # nothing to map
        # Copied on write: torch knows no read-only memory.
        return torch.from_numpy(np.memmap(file, np.float32, mode="c", shape=(self._particles, channels)))


@contextmanager
def with_frozen_features(
    tagger: Tagger, loaders: Loaders, folder: Path, limit_gb: float, console: Console
) -> Iterator[tuple[Tagger, Feed[JetBatch] | Feed[FeatureBatch]]]:
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
        train = MadeAhead(numbers, lambda batches: ahead(features.batch(batch.label_N) for batch in batches))
        yield features.tagger, Feed(train, _StoredBatches(features, len(files) - sum(sizes), sizes))


@dataclass(frozen=True)
class _StoredBatches:
    """Batches of stored features, in the order in which they were stored."""

    features: Features
    first: int
    sizes: list[int]

    def __iter__(self) -> Iterator[FeatureBatch]:
        index_N = torch.arange(self.first, self.first + sum(self.sizes))
        return ahead(map(self.features.batch, torch.split(index_N, self.sizes)))


class _Rows(nn.Module):
    def forward(self, state: State) -> Float[Tensor, "V C"]:
        return state.rows()

    def macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        return torch.zeros_like(particle_count_N)


def _write_all(file: IO[bytes], content: memoryview) -> None:
    while len(content):  # what is not buffered may be written in part
        content = content[file.write(content) :]


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
