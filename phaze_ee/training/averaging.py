"""Averaged weights: what is validated and saved with ``ema_decay``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn

from phaze_ee.training.module import TaggerModule


@final
class AveragedWeights(WeightAveraging):
    """An exponential moving average over steps, of parameters and of the statistics of BatchNorm.

    What a training leaves alone stays as it is, bit for bit. Numbers that are no floats, such as counts of batches, are
    those of the last step. When the regime ``disjoint`` freezes the backbone, its average takes its place: the exits
    learn on the full model that is saved.

    Args:
        decay: the fraction of the average that is kept in each step.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(avg_fn=_towards(1.0 - decay))
        self._is_applied = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        own, average = self._backbones(pl_module)
        if _tagger_module(pl_module).frozen:  # in the state of an earlier version they differ
            average.load_state_dict(own.state_dict())

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        own, average = self._backbones(pl_module)
        if _tagger_module(pl_module).second_phase_begins:
            own.load_state_dict(average.state_dict())

    def _backbones(self, module: LightningModule) -> tuple[nn.Module, nn.Module]:
        assert self._average_model is not None
        return _tagger_module(module).tagger.backbone, _tagger_module(self._average_model.module).tagger.backbone

    @contextmanager
    def applied(self, module: LightningModule) -> Iterator[None]:
        """Replace the weights by their average inside the context, if a validation has not done so."""
        if self._is_applied:
            yield
            return
        self._swap_models(module)
        try:
            yield
        finally:
            self._swap_models(module)

    def _swap_models(self, pl_module: LightningModule) -> None:
        super()._swap_models(pl_module)
        self._is_applied = not self._is_applied


def _towards(weight: float) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """Return a step of the average towards the weights, which leaves equal numbers as they are."""

    def step(average: Tensor, current: Tensor, count: Any) -> Tensor:
        return torch.lerp(average, current, weight) if average.is_floating_point() else current

    return step


def _tagger_module(module: nn.Module) -> TaggerModule:
    assert isinstance(module, TaggerModule)
    return module
