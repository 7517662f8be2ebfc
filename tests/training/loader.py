"""A loader of batches in memory, as the training sees loaders."""

from collections.abc import Iterator

from phaze_ee.types import JetBatch


class ListLoader:
    """Yields the same batches in every epoch."""

    def __init__(self, batches: list[JetBatch]) -> None:
        self.batches = batches
        self.jet_count = sum(len(batch) for batch in batches)
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[JetBatch]:
        return iter(self.batches)
