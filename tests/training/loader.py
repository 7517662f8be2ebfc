"""A loader of batches in memory, as the training sees loaders."""

from collections.abc import Iterator

import torch

from phaze_ee.types import JetBatch


class ListLoader:
    """Yields the same batches in every epoch."""

    def __init__(self, batches: list[JetBatch]) -> None:
        self.batches = batches
        self.jet_count = sum(len(batch) for batch in batches)
        self.epochs: list[int] = []
        self.first_batch = 0

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        self.epochs.append(epoch)
        self.first_batch = first_batch

    @property
    def selected_count(self) -> int:
        return self.jet_count

    def numbered(self) -> tuple[Iterator[JetBatch], "ListLoader"]:
        position_N = torch.split(torch.arange(self.jet_count), [len(batch) for batch in self.batches])
        numbers = [JetBatch(batch.inputs, index_N) for batch, index_N in zip(self.batches, position_N, strict=True)]
        return iter(self.batches), ListLoader(numbers)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[JetBatch]:
        return iter(self.batches[self.first_batch :])
