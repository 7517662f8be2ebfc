"""Shows how far a training is: a bar in a terminal, lines in a log."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from phaze_ee.training.callbacks import epoch_metrics
from phaze_ee.training.module import TaggerModule

_SHORTEST = 0.1  # seconds between two updates of the bar; reading a loss waits for the GPU
_MINUTE, _HOUR = 60, 3600


class TrainingProgress(Callback):
    """Shows loss and accuracy of the full model, jets per second and the time left for the whole training.

    A terminal has a bar. Otherwise there is a line every ``log_interval`` batches and one for each epoch. With a frozen
    backbone the total loss is shown, because that of the full model is constant. Otherwise the total would rise with β
    even while every loss falls.

    Args:
        console: where to print.
        jets_per_epoch: on all processes together.
        batches_per_epoch: on one process.
        log_interval: batches between two lines.
        frozen: whether the training ends with a frozen backbone.
        details: print a line for each epoch in a terminal too.
    """

    def __init__(
        self,
        console: Console,
        jets_per_epoch: int,
        batches_per_epoch: int,
        log_interval: int,
        *,
        frozen: bool,
        details: bool = False,
    ) -> None:
        self.console = console
        self.loss_name, self.loss_title = ("total_loss", "total loss") if frozen else ("loss/full_model", "loss")
        self.jets_per_batch = jets_per_epoch / max(1, batches_per_epoch)
        self.batches_per_epoch = batches_per_epoch
        self.log_interval = log_interval
        self.epoch_lines = details or not console.is_terminal
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._start = (0.0, 0)  # time and batch at which the epoch began or was resumed
        self._updated = 0.0
        self._validated = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = (time.monotonic(), -1)
        if not trainer.is_global_zero or not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task("training", total=self._total(trainer), state="")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0 or self._start[1] < 0:
            self._start = (time.monotonic(), batch_idx)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_global_zero:
            return
        now, done = time.monotonic(), trainer.current_epoch * self.batches_per_epoch + batch_idx + 1
        if self._bar is not None:
            if now - self._updated >= _SHORTEST:
                self._updated = now
                description = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
                state = f"{self._measured(pl_module)}{self._validated} {self._speed(batch_idx):.0f} jets/s"
                self._bar.update(self._task, completed=done, description=description, state=state)
        elif done % self.log_interval == 0:
            speed = self._speed(batch_idx)
            left = (self._total(trainer) - done) * self.jets_per_batch / max(speed, 1e-9)
            place = f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}  batch {batch_idx + 1}"
            self.console.print(
                f"{place}/{self.batches_per_epoch}  {self._measured(pl_module)}  {speed:,.0f} jets/s  "
                f"{duration(left)} left",
                soft_wrap=True,
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        metrics = epoch_metrics(trainer)
        validated = [value for name, value in metrics.items() if name.startswith("val/accuracy/")]
        self._validated = f" val {validated[-1]:.3f}" if validated else self._validated
        if not self.epoch_lines:
            return
        loss = metrics[f"train/{self.loss_name}"]
        line = f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}  {self.loss_title} {loss:.3f}"
        if validated:
            exits = " ".join(f"{value:.3f}" for value in validated[:-1])
            line += f"  val acc: {f'exits {exits}, ' if exits else ''}full {validated[-1]:.3f}"
        self.console.print(line, soft_wrap=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _total(self, trainer: Trainer) -> int:
        return self.batches_per_epoch * (trainer.max_epochs or 0)

    def _measured(self, module: LightningModule) -> str:
        assert isinstance(module, TaggerModule)
        if not module.latest:
            return "no batch yet"  # the first ones are skipped
        loss, accuracy = (float(module.latest[f"train/{name}"]) for name in (self.loss_name, "accuracy/full_model"))
        return f"{self.loss_title} {loss:.3f} acc {accuracy:.2f}"

    def _speed(self, batch_idx: int) -> float:
        """Return the jets per second in this epoch."""
        start, first = self._start
        return (batch_idx + 1 - first) * self.jets_per_batch / max(time.monotonic() - start, 1e-9)


def duration(seconds: float) -> str:
    """Return a time in words, such as ``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < 2 * _HOUR else f"{seconds / _HOUR:.1f} h"
