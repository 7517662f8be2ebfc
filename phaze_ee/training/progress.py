"""What a user sees of a training: a bar while it runs, and one line an epoch that stays."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from phaze_ee.training.callbacks import epoch_metrics


class ProgressBar(Callback):
    """Shows loss and accuracy of the full model, jets per second and the time left.

    The time left is that of the whole training. Where the output is not a terminal there are lines only. With a frozen
    backbone the loss is the total: the full model's is a constant then. Without, the total rises with β even while
    everything improves.
    """

    def __init__(self, console: Console, jets_per_epoch: int, batches_per_epoch: int, *, frozen: bool) -> None:
        self.console = console
        self.loss_name = "total_loss" if frozen else "loss/full_model"
        self.jets_per_batch = jets_per_epoch / max(1, batches_per_epoch)
        self.batches_per_epoch = batches_per_epoch
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._start = (0.0, 0)  # when, and at which batch, the epoch began or went on

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._bar.start()
        total = self.batches_per_epoch * (trainer.max_epochs or 0)
        self._task = self._bar.add_task("training", total=total, state="")
        self._start = (time.monotonic(), -1)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0 or self._start[1] < 0:
            self._start = (time.monotonic(), batch_idx)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is None:
            return
        start, first = self._start
        speed = (batch_idx + 1 - first) * self.jets_per_batch / (time.monotonic() - start)
        metrics = trainer.callback_metrics
        names = (self.loss_name, "accuracy/full_model")
        loss, accuracy = (float(metrics[f"train/{name}_step"]) for name in names)
        state = f"loss {loss:.3f} acc {accuracy:.2f} {speed:.0f} jets/s"
        done = trainer.current_epoch * self.batches_per_epoch + batch_idx + 1
        self._bar.update(self._task, completed=done, description=f"epoch {trainer.current_epoch + 1}", state=state)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        metrics = epoch_metrics(trainer)
        loss = metrics[f"train/{self.loss_name}"]
        line = f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}  loss {loss:.3f}"
        validated = [value for name, value in metrics.items() if name.startswith("val/accuracy/")]
        if validated:
            exits = " ".join(f"{value:.3f}" for value in validated[:-1])
            line += f"  val accuracy: {f'exits {exits}, ' if exits else ''}full {validated[-1]:.3f}"
        self.console.print(line, soft_wrap=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
