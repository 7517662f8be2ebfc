"""A moving average of the weights, by which models are validated and kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from lightning import LightningModule
from lightning.pytorch.callbacks import EMAWeightAveraging


@final
class AveragedWeights(EMAWeightAveraging):
    """Lightning's exponential moving average; parameters and BatchNorm's statistics alike, after every step.

    Args:
        decay: the share of the average that each step keeps.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)

    @contextmanager
    def applied(self, module: LightningModule) -> Iterator[None]:
        """Put the average in the place of the weights for a while."""
        self._swap_models(module)
        try:
            yield
        finally:
            self._swap_models(module)
