"""Averaged weights: what is validated and saved with ``ema_decay``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn

from phaze_ee.training.module import tagger_module


@final
class AveragedWeights(WeightAveraging):
    """An exponential moving average over steps, of parameters and of the statistics of BatchNorm.

    It lies on the device of the training, where a step takes a few launches and the host waits for nothing. What a
    training leaves alone stays as it is, bit for bit. Numbers that are no floats, such as counts of batches, are those
    of the last step. When the regime ``disjoint`` freezes the backbone, its average takes its place: the exits
    learn on the full model that is saved.

    Args:
        decay: the fraction of the average that is kept in each step.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self._weight = 1.0 - decay
        self._is_applied = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device  # the module is not there yet
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step > self._latest_update_step:
            self._step(pl_module, self._weight if self._latest_update_step else 1.0)
            self._latest_update_step = trainer.global_step

    @torch.no_grad()
    def _step(self, module: LightningModule, weight: float) -> None:
        """Move the average towards the weights; equal numbers stay as they are, and 1 copies the weights.

        That of torch asks the device how many steps there were, for which the host would wait.
        """
        assert self._average_model is not None
        pairs = list(zip(_tensors(self._average_model.module), _tensors(module), strict=True))
        for average, own in pairs:
            if not average.is_floating_point():
                average.copy_(own)
        for kind in {average.dtype for average, _ in pairs if average.is_floating_point()}:
            averages, owns = zip(*[pair for pair in pairs if pair[0].dtype == kind], strict=True)
            torch._foreach_lerp_(averages, owns, weight)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        own, average = self._backbones(pl_module)
        if tagger_module(pl_module).frozen:  # in the state of an earlier version they differ
            average.load_state_dict(own.state_dict())

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        own, average = self._backbones(pl_module)
        if tagger_module(pl_module).second_phase_begins:
            own.load_state_dict(average.state_dict())

    def _backbones(self, module: LightningModule) -> tuple[nn.Module, nn.Module]:
        assert self._average_model is not None
        return tagger_module(module).tagger.backbone, tagger_module(self._average_model.module).tagger.backbone

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


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
