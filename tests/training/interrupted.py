"""A small training in a process of its own, which can be killed and goes on."""

import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from phaze_ee.config.options import Options
from phaze_ee.errors import PhazeError
from phaze_ee.machine import resolve_device
from phaze_ee.models.tagger import Tagger
from phaze_ee.training.loaders import Loaders
from phaze_ee.training.losses import WorkingPoint
from phaze_ee.training.module import TaggerModule
from phaze_ee.training.resume import find_resume_point
from phaze_ee.training.run import DataRecord, Outputs, train
from phaze_ee.types import JetBatch
from tests.jets import labelled_batch, small_tagger
from tests.training.loader import ListLoader

EPOCHS, BATCHES = 4, 5
POINT = WorkingPoint(signal=1, background=0, efficiency=0.5, lost=0.01)


class ShuffledLoader(ListLoader):
    """Yields the batches in an order of each epoch; writes down how far it got."""

    def __init__(self, batches: list[JetBatch], progress: Path) -> None:
        super().__init__(batches)
        self.progress, self.epoch = progress, 0

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        super().set_epoch(epoch, first_batch)
        self.epoch = epoch

    def __iter__(self) -> Iterator[JetBatch]:
        order = torch.randperm(len(self.batches), generator=torch.Generator().manual_seed(self.epoch)).tolist()
        for number, index in enumerate(order[self.first_batch :], self.first_batch):
            self.progress.write_text(f"{self.epoch * len(self.batches) + number}")
            yield self.batches[index]


def outputs(folder: Path) -> Outputs:
    return Outputs(folder / "models", folder / "logs", folder / "history.json", folder / "resume.ckpt", "test/small")


def options(**changes: Any) -> Options:
    values = {
        "train_files": ["unused"],
        "val_files": ["unused"],
        "epochs": EPOCHS,
        "exit_stages": [0, 1],
        "beta_max": [1.0],
        "exit_loss_strategy": "target_flow",
        "lr": 0.01,
        "seed": 5,
        "device": "cpu",
        "resume_interval": 2,
        "tensorboard": False,
    }
    return Options(**{**values, **changes})


def run(folder: Path, changes: dict[str, Any] | None = None) -> Tagger:
    """Train from the start, or go on where an earlier run was killed.

    Of several processes each gets its part of every batch. Then there is no dropout: it would differ between them.
    """
    folder.mkdir(exist_ok=True)
    wanted = options(**(changes or {}))
    rank, processes = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    part = torch.arange(16).chunk(processes)[rank]
    whole = [labelled_batch(16, seed=seed, shift=0.7) for seed in range(BATCHES + 1)]
    batches = [JetBatch(batch.inputs.select(part), batch.label_N[part]) for batch in whole]
    tagger = small_tagger((0, 1), seed=2, trim=True).float().train()
    for module in tagger.modules():
        if isinstance(module, nn.Dropout) and wanted.use_ddp:
            module.p = 0.0
    loaders = (ShuffledLoader(batches[:-1], folder / f"progress{rank or ''}"), ListLoader(batches[-1:]))
    train(
        tagger,
        Loaders(*loaders),
        wanted,
        outputs(folder),
        DataRecord({}, "hash"),
        resolve_device(wanted.device),
        Console(file=io.StringIO(), width=200),
        find_resume_point(folder / "resume.ckpt"),
        POINT,
    )
    return tagger


def before_step(
    monkeypatch: pytest.MonkeyPatch, step: str, epoch: int, batch: int, act: Callable[[TaggerModule], None]
) -> None:
    """Act once in this process, before a ``training_step`` or ``validation_step``, counted from 0."""
    plain, acted = getattr(TaggerModule, step), False

    def acting(module: TaggerModule, jets: JetBatch, number: int) -> Any:
        nonlocal acted
        if not acted and (module.current_epoch, number) == (epoch, batch):
            acted = True
            act(module)
        return plain(module, jets, number)

    monkeypatch.setattr(TaggerModule, step, acting)


def stop(module: TaggerModule) -> None:
    """Send this process what a batch system sends before it takes the machine away."""
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt(module: TaggerModule) -> None:
    """Press Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def crash(module: TaggerModule) -> None:
    """End the training as if the machine had failed."""
    raise Crash


class Crash(Exception):  # noqa: N818 - an event
    pass


def work(folder: Path, changes: dict[str, Any], environment: dict[str, str]) -> None:
    """Run in a process of its own; its exit status tells what became of it."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    if "STOPPED_IN_VALIDATION" in environment:
        before_step(pytest.MonkeyPatch(), "validation_step", 1, 0, stop)
    try:
        run(folder, changes)
    except PhazeError as error:
        (folder / f"error{os.environ.get('RANK', '')}").write_text(str(error))
        os._exit(error.exit_status)
