"""Batches of a training: epochs of a chosen length, batches that a thread makes ahead, and sends to a device."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, final

import torch

from phaze_ee.config.options import TrainingOptions
from phaze_ee.data.row_spans import ahead
from phaze_ee.transfer import Sender
from phaze_ee.types import JetBatch

BatchT = TypeVar("BatchT")
BatchT_co = TypeVar("BatchT_co", covariant=True)


class EpochBatches(Protocol[BatchT_co]):
    """The batches of a training; one walk is an epoch."""

    @property
    def jet_count(self) -> int:
        """Jets in an epoch."""

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch of the next walk, and the batch that it begins with."""

    def __iter__(self) -> Iterator[BatchT_co]: ...


class TrainingBatches(EpochBatches[JetBatch], Protocol):
    """Shuffled batches of jets, see :class:`phaze_ee.data.loaders.TrainingLoader`."""

    @property
    def selected_count(self) -> int:
        """Jets that pass the selection."""

    def numbered(self) -> tuple[Iterable[JetBatch], "TrainingBatches"]:
        """Return all jets once, and a loader of their numbers, as ``TrainingLoader.numbered`` does."""


@dataclass(frozen=True)
class Feed(Generic[BatchT_co]):
    """The batches of a training and those of its validation."""

    train: EpochBatches[BatchT_co]
    val: Iterable[BatchT_co]


@dataclass(frozen=True)
class Loaders(Feed[JetBatch]):
    """The two loaders of a training, see :mod:`phaze_ee.data.loaders`."""

    train: TrainingBatches
    val: Iterable[JetBatch]


@final
class StepEpochs:
    """A training loader whose epochs have ``steps`` batches; each epoch continues where the last one ended.

    Every jet still comes exactly once in each pass, whatever the epochs.

    Args:
        loader: the loader of whole passes.
        steps: batches in an epoch.
    """

    def __init__(self, loader: TrainingBatches, steps: int) -> None:
        self._loader, self._steps = loader, steps
        self._first, self._left = 0, steps
        self.jet_count = round(loader.jet_count * steps / len(loader))

    def __len__(self) -> int:
        return self._steps

    @property
    def selected_count(self) -> int:
        """Jets that pass the selection."""
        return self._loader.selected_count

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch of the next walk, and the batch that it begins with."""
        self._first, self._left = epoch * self._steps + first_batch, self._steps - first_batch

    def numbered(self) -> tuple[Iterable[JetBatch], "StepEpochs"]:
        """Return all jets once, and a loader of their numbers, as ``TrainingLoader.numbered`` does."""
        jets, numbers = self._loader.numbered()
        return jets, StepEpochs(numbers, self._steps)

    def __iter__(self) -> Iterator[JetBatch]:
        position, left = self._first, self._left
        while left:
            passed, batch = divmod(position, len(self._loader))
            self._loader.set_epoch(passed, batch)
            for found, _ in zip(self._loader, range(left), strict=False):
                yield found
                position, left = position + 1, left - 1


def with_epoch_length(loader: TrainingBatches, options: TrainingOptions, processes: int = 1) -> TrainingBatches:
    """Return the loader with epochs as long as the options say.

    Args:
        loader: the loader of whole passes.
        options: ``steps_per_epoch`` or ``samples_per_epoch``; with neither, an epoch is a pass.
        processes: how many processes train together, each with a share of the samples.
    """
    if options.samples_per_epoch is not None:
        return StepEpochs(loader, -(-options.samples_per_epoch // (options.batch_size * processes)))
    return loader if options.steps_per_epoch is None else StepEpochs(loader, options.steps_per_epoch)


@final
class MadeAhead(Generic[BatchT, BatchT_co]):
    """The batches of a loader, each walk changed by ``walk``, which makes the next batch ahead.

    Args:
        loader: its epochs are kept.
        walk: takes the batches of an epoch, and yields as many.
    """

    def __init__(self, loader: EpochBatches[BatchT], walk: Callable[[Iterable[BatchT]], Iterator[BatchT_co]]) -> None:
        self._loader, self._walk = loader, walk
        self.jet_count = loader.jet_count

    def __len__(self) -> int:
        return len(self._loader)

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch of the next walk, and the batch that it begins with."""
        self._loader.set_epoch(epoch, first_batch)

    def __iter__(self) -> Iterator[BatchT_co]:
        return self._walk(self._loader)


class Sends(Protocol):
    """Sends batches to a device, see :class:`phaze_ee.transfer.Sender`."""

    def send(self, batch: JetBatch) -> Any:
        """Begin to copy a batch, in a thread."""

    def receive(self, sent: Any) -> JetBatch:
        """Return the batch on the device."""


def _sender() -> Sends:
    return Sender[JetBatch](torch.device("cuda", torch.cuda.current_device()))


@final
@dataclass(frozen=True)
class Sent:
    """Batches on the CUDA device of this process. A thread makes and sends the next while the current one is used.

    Args:
        batches: on the CPU.
        sender: makes what sends the batches of a walk, in the thread for which Lightning has chosen the device.
    """

    batches: Iterable[JetBatch]
    sender: Callable[[], Sends] = _sender

    def __iter__(self) -> Iterator[JetBatch]:
        sender = self.sender()
        return map(sender.receive, ahead(map(sender.send, self.batches)))


def sent(feed: Feed[JetBatch], sender: Callable[[], Sends] = _sender) -> Feed[JetBatch]:
    """Return the batches of a training and those of its validation, all :class:`Sent`."""
    return Feed(MadeAhead(feed.train, lambda batches: iter(Sent(batches, sender))), Sent(feed.val, sender))
