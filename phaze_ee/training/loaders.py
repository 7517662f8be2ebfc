"""Epochs of a chosen length: an epoch is a share of a pass through the jets, or several passes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, final

from torch import Tensor

from phaze_ee.config.options import TrainingOptions
from phaze_ee.data.spans import ahead
from phaze_ee.types import JetBatch


@dataclass(frozen=True)
class Loaders:
    """The two loaders of a training, see :mod:`phaze_ee.data.loaders`."""

    train: Any
    val: Any


@final
class StepEpochs:
    """A training loader whose epochs have ``steps`` batches; each goes on in the jets where the one before ended.

    Every jet still comes exactly once in each pass, whatever the epochs.

    Args:
        loader: the loader of whole passes, see :class:`phaze_ee.data.loaders.TrainingLoader`.
        steps: batches in an epoch.
    """

    def __init__(self, loader: Any, steps: int) -> None:
        self._loader, self._steps = loader, steps
        self._first, self._left = 0, steps
        self.jet_count = round(loader.jet_count * steps / len(loader))

    def __len__(self) -> int:
        return self._steps

    @property
    def selected_count(self) -> int:
        """Jets that pass the selection."""
        return int(self._loader.selected_count)

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch of the next walk, and the batch that it begins with."""
        self._first, self._left = epoch * self._steps + first_batch, self._steps - first_batch

    def numbered(self) -> tuple[Any, "StepEpochs"]:
        """Return all jets once, and a loader of their numbers, as ``TrainingLoader.numbered`` does."""
        jets, numbers = self._loader.numbered()
        return jets, StepEpochs(numbers, self._steps)

    def __iter__(self) -> Iterator[Any]:
        position, left = self._first, self._left
        while left:
            passed, batch = divmod(position, len(self._loader))
            self._loader.set_epoch(passed, batch)
            for found, _ in zip(self._loader, range(left), strict=False):
                yield found
                position, left = position + 1, left - 1


def with_epoch_length(loader: Any, options: TrainingOptions, processes: int = 1) -> Any:
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
class Pinned:
    """A training loader whose next batch a thread makes, in page-locked memory, while the current one is used.

    From such memory a GPU fetches a batch by itself, while it computes.

    Args:
        loader: see :class:`phaze_ee.data.loaders.TrainingLoader`.
        pin: moves a tensor to page-locked memory.
    """

    def __init__(self, loader: Any, pin: Callable[[Tensor], Tensor] = Tensor.pin_memory) -> None:
        self._loader, self._pin = loader, pin
        self.jet_count = loader.jet_count

    def __len__(self) -> int:
        return len(self._loader)

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        self._loader.set_epoch(epoch, first_batch)

    def __iter__(self) -> Iterator[JetBatch]:
        return ahead(map(self._pinned, self._loader))

    def _pinned(self, batch: JetBatch) -> JetBatch:
        return replace(batch, inputs=batch.inputs.map(self._pin), label_N=self._pin(batch.label_N))
