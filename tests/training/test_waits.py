"""How often the host waits for the card in a step of training: for the loss alone, and not to log."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from phaze_ee.training import run as module_of_run
from tests.kernels import waits
from tests.training.test_run import BATCHES, run

STEPS = 6


class _Counting(Callback):
    """Counts waits from the third step of the second epoch on, for some whole steps."""

    def __init__(self) -> None:
        self.waits = waits.Waits()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == (1, 2):
            self.waits.__enter__()
        if (trainer.current_epoch, batch_idx) == (1, 2 + STEPS):
            self.waits.__exit__(None, None, None)


def counted(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Counter[str]:
    """Return what the host waits for in :data:`STEPS` steps, and the numbers that it copies to the device."""
    counting, make = _Counting(), module_of_run._trainer

    def with_counting(options: Any, outputs: Any, device: Any, callbacks: list[Callback], point: Any) -> Trainer:
        return make(options, outputs, device, [counting, *callbacks], point)

    monkeypatch.setattr(waits, "_READS", waits._READS | {torch.tensor})
    monkeypatch.setattr(module_of_run, "_trainer", with_counting)
    # SGD: on the CPU, Adam reads the number of its steps, which is on the CPU everywhere.
    monkeypatch.setattr("phaze_ee.training.optim.OPTIMIZERS", {"adamw": torch.optim.SGD})
    run(folder, batches=BATCHES * 3, validation=2, optimizer="adamw", use_packed=False, epochs=2, **changes)
    return Counter(counting.waits.names)


def test_a_step_waits_for_its_loss_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = counted(tmp_path, monkeypatch, log_interval=1000)
    assert found.pop("__bool__") == STEPS
    assert not {"tensor", "item", "__float__", "tolist", "cpu", "numpy"} & set(found)


def test_values_are_read_where_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = counted(tmp_path, monkeypatch, log_interval=3)
    assert found["__float__"] == 2 * STEPS // 3, "the line of the log has a loss and an accuracy"
    assert found["tensor"] == STEPS // 3, "the learning rate"
