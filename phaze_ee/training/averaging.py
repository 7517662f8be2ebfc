"""Averaged weights: what is validated and saved with ``ema_decay``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


@final
class AveragedWeights(WeightAveraging):
    """An exponential moving average over steps, of parameters and of the statistics of BatchNorm.

    What a training leaves alone stays as it is, bit for bit. Numbers that are no floats, such as counts of batches, are
    those of the last step.

    Args:
        decay: the fraction of the average that is kept in each step.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(avg_fn=_towards(1.0 - decay))

    @contextmanager
    def applied(self, module: LightningModule) -> Iterator[None]:
        """Replace the weights by their average inside the context."""
        self._swap_models(module)
        try:
            yield
        finally:
            self._swap_models(module)


def _towards(weight: float) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """Return a step of the average towards the weights, which leaves equal numbers as they are."""

    def step(average: Tensor, current: Tensor, count: Any) -> Tensor:
        return torch.lerp(average, current, weight) if average.is_floating_point() else current

    return step
