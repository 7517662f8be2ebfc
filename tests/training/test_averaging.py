"""Averaged weights: the numbers, and what the host waits for."""

import warnings
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from phaze_ee.config.options import Options
from phaze_ee.training.averaging import AveragedWeights
from phaze_ee.training.module import TaggerModule
from tests.jets import small_tagger
from tests.training.loader import ListLoader
from tests.training.test_run import BATCHES, QUICK


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 4, dtype=torch.float16), nn.BatchNorm1d(4)


def averaged(module: nn.Module) -> tuple[Any, Any]:
    average: Any = AveragedWeights(0.9)
    average._average_model = AveragedModel(module)
    return average, average._average_model.module


def change(module: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.fill_(value)


def test_each_step_moves_by_a_tenth_and_counts_are_copied() -> None:
    module = Layers()
    average, found = averaged(module)
    change(module, 2)
    average._step(module, 1.0)
    change(module, 4)
    average._step(module, 0.1)
    assert found.layer.weight.unique().tolist() == [torch.tensor(2.2, dtype=torch.float16).item()]
    assert found.norm.running_var.unique().tolist() == [torch.tensor(2.2).item()]
    assert found.norm.num_batches_tracked == 4


def test_numbers_that_stay_are_the_same_bit_for_bit() -> None:
    module = Layers()
    average, found = averaged(module)
    for _ in range(50):
        average._step(module, 1 - 0.999)
    pairs = zip(module.state_dict().values(), found.state_dict().values(), strict=True)
    assert all(torch.equal(own, other) for own, other in pairs)


def test_the_host_reads_no_number_of_the_device() -> None:
    """The device without memory takes the place of a card: it has no numbers to read."""
    module = Layers().to("meta")
    average, _ = averaged(module)
    average._step(module, 0.1)


class _Recorded(Callback):
    """Keeps the weights after each step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step > len(self.steps):
            self.steps.append({name: value.clone() for name, value in pl_module.state_dict().items()})


def test_a_training_ends_with_the_average_from_its_first_step_on() -> None:
    tagger = small_tagger((0,)).float().train()
    options = Options(**{**QUICK, "exit_stages": [0], "beta_max": 1, "zero_epochs": 0})
    module, recorded = TaggerModule(tagger, options, options, total_steps=3), _Recorded()
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    callbacks: list[Callback] = [recorded, AveragedWeights(0.9)]
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", callbacks=callbacks, enable_checkpointing=False,
        accumulate_grad_batches=2, **quiet,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        trainer.fit(module, ListLoader(BATCHES))
    assert len(recorded.steps) == 3
    for name, value in module.state_dict().items():
        first, second, third = (step[name] for step in recorded.steps)
        expected = 0.81 * first + 0.09 * second + 0.1 * third if value.is_floating_point() else third
        torch.testing.assert_close(value, expected.to(value.dtype), rtol=1e-5, atol=1e-6)
