"""Callbacks of the training: checkpoints and the training history."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from pydantic import BaseModel, ConfigDict, Field

from phaze_ee.errors import RunError
from phaze_ee.models.checkpoint import Checkpoint, save_checkpoint
from phaze_ee.results.training import EpochRecord, TrainingHistory
from phaze_ee.training.averaging import AveragedWeights
from phaze_ee.training.module import TaggerModule, tagger_module

MakeCheckpoint = Callable[[TaggerModule, int, dict[str, float]], Checkpoint]
_LATEST = "latest_model.pt"


class _Kept(BaseModel):
    """What :class:`Checkpoints` saves and restores with the training."""

    model_config = ConfigDict(strict=True, extra="forbid")

    best_accuracy: float
    best_epoch: int | None
    improved_epoch: int | None
    earlier: dict[str, int] | None = Field(alias="_earlier")


class Checkpoints(Callback):
    """Writes ``latest_model.pt``, ``best_model.pt`` and ``epoch_NNN.pt``.

    The best model has the highest validation accuracy of the full model among the epochs in which exits are trained; of
    equal epochs it is the last, because its exits have learned longer. With a frozen backbone the accuracy of the full
    model is constant, and the mean over the exits counts instead; if they learn for a working point, their mean loss.
    Ctrl-C saves the current state as the latest model.

    With the first checkpoint, best and periodic checkpoints of an earlier training are moved to the folder
    ``previous``, so that no mode mistakes an old model for the new one. Files of the same name there are replaced.

    Args:
        folder: for the checkpoints.
        save_interval: epochs between two files ``epoch_NNN.pt``.
        make: makes a checkpoint from the module, the epoch and its metrics.
        average: if given, its averaged weights are saved, as they are what is validated.
        patience: stop after the first validation that is at least this many epochs after the best model; 0: never.
    """

    def __init__(
        self,
        folder: Path,
        save_interval: int,
        make: MakeCheckpoint,
        *,
        average: AveragedWeights | None = None,
        patience: int = 0,
    ) -> None:
        self.folder = folder
        self.average, self.patience = average, patience
        self.save_interval = save_interval
        self.make = make
        self.best_accuracy = -1.0
        self.best_epoch: int | None = None
        self.improved_epoch: int | None = None
        self._earlier: dict[str, int] | None = None  # names and modification times; None: the training has not begun

    def state_dict(self) -> dict[str, Any]:
        return {field.alias or name: getattr(self, field.alias or name) for name, field in _Kept.model_fields.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in _Kept.model_validate(state_dict).model_dump(by_alias=True).items():
            setattr(self, name, value)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._earlier is None:
            found = [path for path in self.folder.glob("*.pt") if path.name != _LATEST]
            self._earlier = {path.name: path.stat().st_mtime_ns for path in found}
        # It may have been killed between the state of its last epoch and its end.
        trainer.should_stop = self._is_out_of_patience(trainer, trainer.current_epoch - 1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = tagger_module(pl_module)
        epoch = trainer.current_epoch
        accuracy = _validated_accuracy(trainer, module)
        best = accuracy is not None and module.trains_exits and accuracy >= self.best_accuracy
        if best:
            assert accuracy is not None
            self.improved_epoch = epoch if accuracy > self.best_accuracy else self.improved_epoch
            self.best_accuracy, self.best_epoch = accuracy, epoch
        if trainer.is_global_zero:
            with self._averaged(module):
                self._save(self.make(module, epoch, epoch_metrics(trainer)), best=best)
        if self._is_out_of_patience(trainer, epoch):
            trainer.should_stop = True

    def _is_out_of_patience(self, trainer: Trainer, epoch: int) -> bool:
        """Return whether the training ends with an epoch: it was validated, and none was better for too long."""
        if not self.patience or self.improved_epoch is None or not _is_validated(trainer, epoch):
            return False
        return epoch - self.improved_epoch >= self.patience

    def _averaged(self, module: TaggerModule) -> AbstractContextManager[None]:
        return nullcontext() if self.average is None else self.average.applied(module)

    def _save(self, checkpoint: Checkpoint, *, best: bool) -> None:
        self._save_latest(checkpoint)
        if (checkpoint.epoch + 1) % self.save_interval == 0:
            save_checkpoint(self.folder / f"epoch_{checkpoint.epoch + 1:03d}.pt", checkpoint)
        if best:
            save_checkpoint(self.folder / "best_model.pt", checkpoint)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero:
            module = tagger_module(pl_module)
            so_far = {name: float(value) for name, value in module.so_far.means.items()} if module.so_far.jets else {}
            with self._averaged(module):
                self._save_latest(self.make(module, trainer.current_epoch, so_far))

    def _save_latest(self, checkpoint: Checkpoint) -> None:
        save_checkpoint(self.folder / _LATEST, checkpoint)
        for name, changed in (self._earlier or {}).items():
            path, previous = self.folder / name, self.folder / "previous" / name
            # A resumed training may have moved it before, and written its own file of that name.
            if path.is_file() and path.stat().st_mtime_ns == changed:
                previous.parent.mkdir(exist_ok=True)
                path.replace(previous)
        self._earlier = {}


class History(Callback):
    """Writes losses and accuracies of all epochs to the training history, after every epoch.

    Args:
        path: the JSON file.
        project: the name of the project.
    """

    def __init__(self, path: Path, project: str) -> None:
        self.path = path
        self.project = project
        self.records: list[EpochRecord] = []
        self._start: float | None = None
        self._jets = 0
        self._train_seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"records": [record.model_dump(mode="json") for record in self.records]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.records = [EpochRecord.model_validate(record) for record in state_dict["records"]]

    def on_train_batch_start(self, *arguments: Any, **keywords: Any) -> None:
        if self._start is None:
            self._start, self._jets = time.monotonic(), 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert self._start is not None
        self._jets += len(batch)
        self._train_seconds = time.monotonic() - self._start

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = None
        if not trainer.is_global_zero:
            return
        module = tagger_module(pl_module)
        self.records.append(self._record(trainer, module))
        history = TrainingHistory(
            project=self.project,
            exit_names=list(module.tagger.exit_names),
            exit_loss_strategy=module.exit_options.exit_loss_strategy,
            exit_loss=module.loss_title,
            full_loss=module.full_loss_title,
            epochs=self.records,
        )
        history.write(self.path)

    def _record(self, trainer: Trainer, module: TaggerModule) -> EpochRecord:
        metrics = epoch_metrics(trainer)
        names = module.tagger.exit_names
        validated = _validated_accuracy(trainer, module) is not None
        return EpochRecord(
            epoch=trainer.current_epoch,
            learning_rate=_learning_rate(trainer),
            beta=list(module.beta),
            train_total_loss=metrics["train/total_loss"],
            train_loss=[metrics[f"train/loss/{name}"] for name in names],
            train_accuracy=[metrics[f"train/accuracy/{name}"] for name in names],
            val_loss=[metrics[f"val/loss/{name}"] for name in names] if validated else None,
            val_accuracy=[metrics[f"val/accuracy/{name}"] for name in names] if validated else None,
            jets_per_second=self._jets / max(self._train_seconds, 1e-9),
        )


def epoch_metrics(trainer: Trainer) -> dict[str, float]:
    """Return the means over the epoch, with those of a validation only if there was one after it, β and learning rate.

    Lightning adds a suffix to those that it also has per step, and keeps those of the last validation and step.
    """
    validated = _is_validated(trainer, trainer.current_epoch)
    means = {
        name.removesuffix("_epoch"): float(value)
        for name, value in trainer.callback_metrics.items()
        if not name.endswith("_step") and (validated or not name.startswith("val/"))
    }
    return {**means, "lr": _learning_rate(trainer)}


def _learning_rate(trainer: Trainer) -> float:
    return float(trainer.optimizers[0].param_groups[0]["lr"])


def _is_validated(trainer: Trainer, epoch: int) -> bool:
    interval = trainer.check_val_every_n_epoch
    return interval is not None and (epoch + 1) % interval == 0


def _validated_accuracy(trainer: Trainer, module: TaggerModule) -> float | None:
    if not _is_validated(trainer, trainer.current_epoch):
        return None
    metrics = epoch_metrics(trainer)
    if f"val/accuracy/{module.judged_exits[0]}" not in metrics:
        raise RunError(
            "the training resumed from a state that says this epoch was validated, and has no accuracies of it; the "
            "state is not one of this training: start again with --fresh"
        )
    return module.judged(metrics)
