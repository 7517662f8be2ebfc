"""Batches in memory that a GPU reads by itself."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, final

from torch import Tensor

from phaze_ee.data.chunks import ahead
from phaze_ee.types import JetBatch


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
