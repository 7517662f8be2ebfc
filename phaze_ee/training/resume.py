"""The state from which an interrupted training goes on, bit for bit as if it had never stopped."""

import io
import logging
import random
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, final

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor, distributed

from phaze_ee.atomic import replacing
from phaze_ee.errors import PreemptedError
from phaze_ee.models.checkpoint import READ_ERRORS
from phaze_ee.training.module import RunningMeans, TaggerModule

_log = logging.getLogger(__name__)

_KEY = "phaze_ee"
_PREEMPTION = (signal.SIGTERM, signal.SIGUSR1)  # what SLURM and HTCondor send before they take a node away


@final
class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's way of writing checkpoints, but whole or not at all, and the one before is kept beside it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        # torch reports a full disk as a RuntimeError of its own; bytes written here report it as the system does.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(buffer.getbuffer())
            if Path(path).exists():
                Path(path).replace(previous(Path(path)))


def previous(path: Path) -> Path:
    """Return where the state before the last one stands."""
    return path.with_stem(f"{path.stem}_previous")


@dataclass(frozen=True)
class ResumePoint:
    """Where a training stood: the file for Lightning, and what else is needed to go on."""

    path: Path
    epoch: int
    batch: int  # batches of that epoch that are done
    step: int
    run: dict[str, Any]  # what the training was started with

    @property
    def described(self) -> str:
        return f"epoch {self.epoch + 1}" + (f", batch {self.batch + 1}" if self.batch else "")


def find_resume_point(path: Path) -> ResumePoint | None:
    """Return the last state that was written and can be read, or None.

    A file that is cut short (the machine went down before it was on disk) is left aside, with a notice, for the one
    before.
    """
    for candidate in (path, previous(path)):
        if not candidate.is_file():
            continue
        try:
            content = torch.load(candidate, map_location="cpu", weights_only=True)
            own = content[_KEY]
            return ResumePoint(candidate, own["epoch"], own["batch"], content["global_step"], own["run"])
        except READ_ERRORS as error:
            _log.warning("%s cannot be read (%s); the state before it is used", candidate, type(error).__name__)
    return None


def forget(path: Path) -> None:
    """Remove the states: the training is over, or another one starts."""
    for candidate in (path, previous(path)):
        candidate.unlink(missing_ok=True)


@final
class ResumePoints(Callback):
    """Writes the whole state of a training after each epoch, every ``interval`` batches, and on signals.

    After SIGTERM and SIGUSR1 the training stops with :class:`PreemptedError`, whose exit status asks the batch system
    to start it again; after Ctrl-C as it would without this. In a run of several processes one signal stops all of them
    at the same batch. A second Ctrl-C does not wait for the end of the batch.

    Args:
        path: the file; the state before stands beside it.
        interval: batches between two states within an epoch; 0: none.
        run: plain values that say what the training was started with.
    """

    def __init__(self, path: Path, interval: int, run: Mapping[str, Any]) -> None:
        self.path = path
        self.interval = interval
        self.run = dict(run)
        self._random: dict[str, Any] | None = None
        self._signal: int | None = None
        self._done = (0, 0)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        own = checkpoint[_KEY]
        self._random = own["random"][trainer.global_rank]
        if own["batch"]:
            assert isinstance(pl_module, TaggerModule)
            pl_module.go_on_from(RunningMeans.from_state_dict(own["so_far"][trainer.global_rank]))
        buffers = _left_out_buffers(pl_module)
        for name, value in own["buffers"].items():
            buffers[name].copy_(value)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # After Lightning, whose handler would lock up several processes that get the signal at different moments.
        for number in _PREEMPTION:
            signal.signal(number, self._note)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # in the background it may be ignored
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
            "buffers": _left_out_buffers(pl_module),
            "run": self.run,
        }

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stop = trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False)
        # The last batch is part of the state after the epoch: from here Lightning would leave out the validation.
        last = batch_idx + 1 == trainer.num_training_batches
        if not last and (stop or (self.interval and (batch_idx + 1) % self.interval == 0)):
            self._save(trainer, trainer.current_epoch, batch_idx + 1)
        if stop and not last:
            self._stop()

    def on_validation_batch_end(self, *arguments: Any, **keywords: Any) -> None:
        if self._signal is not None:
            self._stop()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, trainer.current_epoch + 1, 0)
        if trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False):
            self._stop()

    def _save(self, trainer: Trainer, epoch: int, batch: int) -> None:
        self._done = (epoch, batch)
        trainer.save_checkpoint(self.path)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number

    def _stop(self) -> None:
        if self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        name = signal.Signals(self._signal).name if self._signal is not None else "a signal to another process"
        raise PreemptedError(f"stopped by {name}; the same command goes on from {self.path}")


def _left_out_buffers(module: LightningModule) -> dict[str, Tensor]:
    """Return what is no part of a ``state_dict`` and yet changes: how often weaver's trimmer was called."""
    kept = module.state_dict()
    return {name: buffer for name, buffer in module.named_buffers() if name not in kept}


def _random_state() -> dict[str, Any]:
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 (what weaver draws from)
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
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
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
