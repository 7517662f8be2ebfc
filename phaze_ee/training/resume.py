"""Saves and restores an interrupted training, so that the result is bit for bit that of a training without a stop."""

import copy
import logging
import operator
import random
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, final

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, distributed

from phaze_ee.atomic import replacing
from phaze_ee.errors import CheckpointError, PreemptedError, is_out_of_memory, one_line
from phaze_ee.models.checkpoint_content import READ_ERRORS, archive, read_plain
from phaze_ee.training.module import RunningMeans, TaggerModule

_log = logging.getLogger(__name__)

CONTENT = "the content of "
INPUTS = "the order of inputs"
PROCESSES = "number of processes"  # in what must not change when a training is resumed
_KEY = "phaze_ee"
_TYPES = ConfigDict(strict=True, arbitrary_types_allowed=True)
_PREEMPTION = (signal.SIGTERM, signal.SIGUSR1)  # what SLURM and HTCondor send before they stop a job


class _Own(BaseModel):
    """What :class:`ResumePoints` adds to a checkpoint of Lightning; lists have one entry for each process."""

    model_config = _TYPES

    epoch: int
    batch: int
    random: list[dict[str, Any]]
    so_far: list[dict[str, Any]]
    buffers: dict[str, Tensor]
    run: dict[str, Any]
    validation: bool = False


class _Optimizer(BaseModel):
    """The state of an optimiser."""

    model_config = _TYPES

    state: dict[Any, Any]
    param_groups: list[dict[str, Any]]


class _State(BaseModel):
    """A checkpoint of Lightning with our own part."""

    model_config = _TYPES

    global_step: int
    state_dict: dict[str, Tensor]
    optimizer_states: list[_Optimizer]
    lr_schedulers: list[dict[str, Any]]
    loops: dict[str, Any]
    own: _Own = Field(alias=_KEY)


@final
class AtomicCheckpoints(TorchCheckpointIO):
    """Writes the checkpoints of Lightning completely or not at all, and keeps the previous one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        content = archive(checkpoint)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(content)
            if Path(path).exists():
                Path(path).replace(previous(Path(path)))


def previous(path: Path) -> Path:
    """Return the path of the previous state."""
    return path.with_stem(f"{path.stem}_previous")


@dataclass(frozen=True)
class ResumePoint:
    """The saved state of a training.

    Attributes:
        path: the checkpoint of Lightning.
        epoch: the epoch to continue, from 0.
        batch: how many batches of that epoch are done.
        step: the optimiser steps that are done.
        run: the settings of the training (:func:`phaze_ee.training.run.run_record`).
        validation: whether all batches of the epoch are done, and its validation is not.
    """

    path: Path
    epoch: int
    batch: int
    step: int
    run: dict[str, Any]
    validation: bool = False

    @property
    def described(self) -> str:
        """The epoch and batch in words, counted from 1."""
        if self.validation:
            return f"the validation of epoch {self.epoch + 1}"
        return f"epoch {self.epoch + 1}" + (f", batch {self.batch + 1}" if self.batch else "")


def find_resume_point(path: Path) -> ResumePoint | None:
    """Return the last saved state that can be read; None if there is none.

    If the file is incomplete, because the machine stopped before it was on disk, the previous state is used, with a
    warning.
    """
    candidates = [candidate for candidate in (path, previous(path)) if candidate.is_file()]
    for candidate in candidates:
        try:
            content, _ = read_plain(candidate)
            state = _State.model_validate(content)
            run = {PROCESSES: len(state.own.random), **state.own.run}  # which earlier versions did not write down
            own = state.own
            return ResumePoint(candidate, own.epoch, own.batch, state.global_step, run, own.validation)
        except READ_ERRORS as error:
            following = "the training starts again" if candidate == candidates[-1] else "the previous state is used"
            _log.warning("%s cannot be read (%s); %s", candidate, type(error).__name__, following)
    return None


@contextmanager
def reporting_unfit_state(point: ResumePoint | None, points: "ResumePoints") -> Iterator[None]:
    """Report a saved state that Lightning, or the first step of the optimiser, cannot go on from.

    Raises:
        CheckpointError: the contents of the state do not fit the training.
    """
    try:
        yield
    except READ_ERRORS as error:
        if point is None or points.went_on or is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"the training cannot go on from {point.path} ({one_line(error)}); if it never can, use --fresh"
        ) from error


def forget(path: Path) -> None:
    """Remove the saved states, because the training is complete or another one starts."""
    for candidate in (path, previous(path)):
        candidate.unlink(missing_ok=True)


@final
class ResumePoints(Callback):
    """Saves the state of a training before and after each validation, every ``interval`` batches, and on signals.

    After SIGTERM, SIGUSR1 or SIGHUP (a terminal that was closed) the training stops with :class:`PreemptedError`, whose
    exit status tells the batch system to start it again. Ctrl-C stops it as usual. If there are several processes, a
    signal to one of them stops all at the same batch. A second Ctrl-C does not wait for the end of the batch. Where the
    gradients of several batches make one step, states are saved between these groups alone, because they hold no
    gradients; a signal waits for the end of the group.

    Args:
        path: the file; the previous state is kept next to it.
        interval: batches between two saved states within an epoch; 0: none.
        run: the settings of the training (:func:`phaze_ee.training.run.run_record`).

    Attributes:
        went_on: whether a batch was trained in this process.
    """

    def __init__(self, path: Path, interval: int, run: Mapping[str, Any]) -> None:
        self.path = path
        self.went_on = False
        self.interval = interval
        self.run = dict(run)
        self._random: dict[str, Any] | None = None
        self._groups: list[Any] = []
        self._signal: int | None = None
        self._done = (0, 0)
        self._validates = False

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        for name, counts in trainer.fit_loop.state_dict().items():
            if name.endswith("progress") and not _counts_as(checkpoint["loops"]["fit_loop"][name], counts):
                raise ValueError(f"its {name} is not that of Lightning")
        own = checkpoint[_KEY]
        self._random = own["random"][trainer.global_rank]
        if own["batch"]:
            assert isinstance(pl_module, TaggerModule)
            pl_module.go_on_from(RunningMeans.from_state_dict(own["so_far"][trainer.global_rank]))
        buffers = _unsaved_buffers(pl_module)
        for name, value in own["buffers"].items():
            buffers[name].copy_(value)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Before the state of the optimisers is restored, which they take as it is.
        self._groups = copy.deepcopy(_groups(trainer))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not _has_form(_groups(trainer), self._groups):
            raise ValueError("its settings of the optimiser are not those of this optimiser")
        # Replaces the handlers of Lightning, by which processes that get a signal at different times block each other.
        for number in (*_PREEMPTION, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has SIGHUP ignored
                signal.signal(number, self._note)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored in the background
            signal.signal(signal.SIGINT, self._note)
        if self._random is not None:
            _set_random_state(self._random)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        epoch, batch = self._done
        assert isinstance(pl_module, TaggerModule)
        checkpoint[_KEY] = {
            "epoch": epoch,
            "batch": batch,
            "random": _of_all_processes(trainer, _random_state()),
            "so_far": _of_all_processes(trainer, pl_module.so_far.state_dict()),
            "buffers": _unsaved_buffers(pl_module),
            "run": self.run,
            "validation": self._validates,
        }
        if self._validates:  # Lightning goes back to a validation that was interrupted in its first batch, to no other
            begun = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]["total"]
            begun.update(ready=1, started=1, processed=0, completed=0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stop = self._is_to_stop(trainer)
        self.went_on = True
        done, group = batch_idx + 1, trainer.accumulate_grad_batches
        # After the last batch the state is saved before the validation or at the end of the epoch.
        if done == trainer.num_training_batches or done % group:
            return
        if stop or (self.interval and done // self.interval > (done - group) // self.interval):
            self._save(trainer, trainer.current_epoch, done)
        if stop:
            self._stop()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, trainer.current_epoch, int(trainer.num_training_batches), validation=True)
        if self._is_to_stop(trainer):
            self._stop()

    def on_validation_batch_end(self, trainer: Trainer, *arguments: Any, **keywords: Any) -> None:
        self.went_on = True
        if self._is_to_stop(trainer):
            self._stop()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, trainer.current_epoch + 1, 0)
        if self._is_to_stop(trainer):
            self._stop()

    def _save(self, trainer: Trainer, epoch: int, batch: int, *, validation: bool = False) -> None:
        self._done, self._validates = (epoch, batch), validation
        trainer.save_checkpoint(self.path)

    def _is_to_stop(self, trainer: Trainer) -> bool:
        """Return whether any process got a signal; each must call this, after the same batches."""
        return bool(trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False))

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number

    def _stop(self) -> None:
        if self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        name = signal.Signals(self._signal).name if self._signal is not None else "a signal to another process"
        raise PreemptedError(f"stopped by {name}; the same command continues from {self.path}")


def _groups(trainer: Trainer) -> list[Any]:
    return [optimizer.state_dict()["param_groups"] for optimizer in trainer.optimizers]


def _has_form(value: Any, own: Any) -> bool:
    """Return whether nested lists have the same lengths, and nested mappings the same names."""
    if isinstance(own, dict):
        return isinstance(value, dict) and value.keys() == own.keys() and all(_has_form(value[k], own[k]) for k in own)
    if isinstance(own, list):
        return isinstance(value, list) and len(value) == len(own) and all(map(_has_form, value, own))
    return not isinstance(value, list | dict)


def _counts_as(value: Any, counts: Any) -> bool:
    """Return whether nested mappings have the same names and types of numbers."""
    if not isinstance(counts, dict):
        return type(value) is type(counts)
    return (
        isinstance(value, dict)
        and value.keys() == counts.keys()
        and all(_counts_as(value[name], count) for name, count in counts.items())
    )


def _unsaved_buffers(module: LightningModule) -> dict[str, Tensor]:
    """Return the buffers that a ``state_dict`` lacks, such as the counter of the sequence trimmer of weaver."""
    kept = module.state_dict()
    return {name: buffer for name, buffer in module.named_buffers() if name not in kept}


def _random_state() -> dict[str, Any]:
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 (weaver uses this generator)
    return {
        "python": random.getstate(),
        "numpy": (str(kind), [int(key) for key in keys], int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_state(state: Mapping[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    whole = [operator.index(key) for key in keys]  # NumPy would cast other numbers with no more than a warning
    np.random.set_state((kind, np.array(whole, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def _of_all_processes(trainer: Trainer, value: Any) -> list[Any]:
    if trainer.world_size == 1:
        return [value]
    gathered: list[Any] = [None] * trainer.world_size
    gather: Callable[[list[Any], Any], None] = distributed.all_gather_object
    gather(gathered, value)
    return gathered
