"""Runs a training, from data and options to checkpoints."""

import importlib.metadata
import inspect
import platform
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer, seed_everything
from rich.console import Console

from phaze_ee.config.options import DataOptions, ExitOptions, NetworkOptions, Options, TrainingOptions
from phaze_ee.errors import RunError, UsageError
from phaze_ee.installation import VERSION
from phaze_ee.machine import world_size
from phaze_ee.models.checkpoint import Checkpoint
from phaze_ee.models.tagger import Tagger
from phaze_ee.registry import plugin_hashes
from phaze_ee.training.averaging import AveragedWeights
from phaze_ee.training.callbacks import Checkpoints, History
from phaze_ee.training.curves import open_logger, reporting_lost_curves
from phaze_ee.training.frozen import FeatureBatch, with_frozen_features
from phaze_ee.training.lightning import (
    compiled_stages,
    environment,
    hardware,
    quiet_lightning,
    reporting_lost_processes,
    strategy,
)
from phaze_ee.training.loaders import Feed, Loaders, sent
from phaze_ee.training.losses import WorkingPoint, is_for_a_point
from phaze_ee.training.module import TaggerModule
from phaze_ee.training.progress import TrainingProgress
from phaze_ee.training.resume import (
    CONTENT,
    INPUTS,
    PROCESSES,
    AtomicCheckpoints,
    ResumePoint,
    ResumePoints,
    forget,
    reporting_unfit_state,
)
from phaze_ee.types import JetBatch

# The sections whose options change the result, and the options among them that do not; of plug-ins, the content counts.
_DECIDING = (DataOptions, NetworkOptions, ExitOptions, TrainingOptions)
_HARMLESS = {"test_files", "background", "plugins", "trust_expressions", "seeds"}
_WORKING_POINT = {"signal", "background", "signal_efficiency", "epsilon"}  # what a cascade is trained for
_PACKAGES = ("torch", "lightning", "weaver-core", "numpy")


@dataclass(frozen=True)
class Outputs:
    """The files and folders that a training writes.

    Attributes:
        models: folder for checkpoints.
        logs: folder for the curves of TensorBoard.
        history: JSON file for losses and accuracies.
        resume: file for the state of the training.
        project: the name of the project.
        details: print a line for each epoch in a terminal too; a log has them always.
    """

    models: Path
    logs: Path
    history: Path
    resume: Path
    project: str
    details: bool = False


@dataclass(frozen=True)
class DataRecord:
    """What a checkpoint stores about the data: the resolved data configuration, and a hash of it and the files.

    ``contents`` has the SHA-256 of other files that a training rests on, by the options that name them.
    """

    options: dict[str, Any]
    hash: str
    contents: dict[str, str | None] = field(default_factory=dict)


def train(
    tagger: Tagger,
    loaders: Loaders,
    options: Options,
    outputs: Outputs,
    data: DataRecord,
    device: torch.device,
    console: Console,
    point: ResumePoint | None = None,
    working: WorkingPoint | None = None,
    *,
    stored: tuple[Tagger, Feed[FeatureBatch]] | None = None,
) -> Checkpoints:
    """Train ``tagger`` in place, and write checkpoints, curves and the history.

    Args:
        tagger: the network with exits.
        loaders: training and validation jets.
        options: the whole configuration; its ``seed`` must be set.
        outputs: where to write.
        data: what the checkpoints store about the data.
        device: where the network is trained.
        console: shows the progress.
        point: the saved state of a training with the same options and data, to resume it; None: start at the beginning.
        working: the working point of a cascade, for an exit loss that needs one.
        stored: a tagger that shares the exits and takes features that are there already, and batches of these. Then
            only the length of ``loaders`` is used. None: the features of a frozen backbone are computed here.

    Raises:
        UsageError: the exit loss needs a working point, or several processes would skip batches.
        RunError: the loss is not finite, a file cannot be written, or Ctrl-C was pressed.
        PreemptedError: a signal (SIGTERM, SIGUSR1, SIGHUP) stopped the process; the training can be resumed.
    """
    assert options.seed is not None
    if options.skip_nan_batches and world_size() > 1:
        raise UsageError(
            f"skip_nan_batches works in one process, and this training has {world_size()}; set skip_nan_batches = 0"
        )
    seed_everything(options.seed, workers=True, verbose=False)
    own = tagger.fastest_form(device) if options.use_packed else tagger
    with (
        _features(own, loaders, options, outputs, device, console, stored) as (walked, walked_loaders),
        _compiled(walked, options, console, padded=walked is tagger),
    ):
        steps = _steps(len(loaders.train), options, console)
        module = TaggerModule(walked, options, options, steps, outputs.models / "bad_batch.pt", working)
        if point is not None:
            walked_loaders.train.set_epoch(point.epoch, point.batch)
        batches = _sent(loaders, options, device) if walked_loaders is loaders else walked_loaders
        return _fit(module, own, batches, options, outputs, data, device, console, point)


def _steps(batches: int, options: Options, console: Console) -> int:
    """Return the optimiser steps of a training, and say if an epoch has but one by mistake."""
    if options.accumulate_batches > batches:
        console.print(
            f"accumulate_batches = {options.accumulate_batches}, but an epoch has {batches}: each epoch is one step.",
            soft_wrap=True,
        )
    return -(-batches // options.accumulate_batches) * options.epochs


def _features(
    tagger: Tagger,
    loaders: Loaders,
    options: Options,
    outputs: Outputs,
    device: torch.device,
    console: Console,
    stored: tuple[Tagger, Feed[FeatureBatch]] | None,
) -> AbstractContextManager[tuple[Tagger, Feed[JetBatch] | Feed[FeatureBatch]]]:
    """Return the tagger and loaders that train: with a frozen backbone, on features that are computed once."""
    if stored is not None:
        return nullcontext(stored)
    if not options.freeze_backbone or not options.feature_cache_gb:
        return nullcontext((tagger, loaders))
    if "strategy" in strategy(options):
        console.print("With several processes the features of the frozen backbone are computed in every epoch.")
        return nullcontext((tagger, loaders))
    tagger.to(device)
    return with_frozen_features(tagger, loaders, outputs.models, options.feature_cache_gb, console)


def _compiled(tagger: Tagger, options: Options, console: Console, *, padded: bool) -> AbstractContextManager[None]:
    if options.use_compile and not padded:
        console.print("use_compile is off, because this network trains without padding.")
    return compiled_stages(tagger) if options.use_compile and padded else nullcontext()


def _sent(loaders: Loaders, options: Options, device: torch.device) -> Feed[JetBatch]:
    return sent(loaders) if device.type == "cuda" and options.pin_memory else loaders


def _fit(
    module: TaggerModule,
    working: Tagger,
    feed: Feed[JetBatch] | Feed[FeatureBatch],
    options: Options,
    outputs: Outputs,
    data: DataRecord,
    device: torch.device,
    console: Console,
    point: ResumePoint | None,
) -> Checkpoints:
    """Run the training. Checkpoints hold ``working``, the tagger with its own backbone."""

    def make(trained: TaggerModule, epoch: int, metrics: dict[str, float]) -> Checkpoint:
        plain = options.model_dump(mode="json")
        return Checkpoint(working, plain, data.options, data.hash, epoch, metrics, installed_versions())

    average = AveragedWeights(options.ema_decay) if options.ema_decay else None
    checkpoints = Checkpoints(
        outputs.models, options.save_interval, make, average=average, patience=options.early_stopping
    )
    jets = feed.train.jet_count
    points = ResumePoints(outputs.resume, options.resume_interval, run_record(options, data))
    callbacks = [
        *([] if average is None else [average]),
        checkpoints,
        History(outputs.history, outputs.project),
        TrainingProgress(
            console, jets, len(feed.train), options.log_interval, frozen=options.ends_frozen, details=outputs.details
        ),
        points,
    ]
    with quiet_lightning():
        trainer = _trainer(options, outputs, device, callbacks, point)
        with (
            _reporting_interrupts(module, outputs),
            reporting_unfit_state(point, points),
            reporting_lost_processes(),
            reporting_lost_curves(options, outputs.logs),
        ):
            trainer.fit(
                module,
                train_dataloaders=feed.train,
                val_dataloaders=feed.val,
                ckpt_path=None if point is None else point.path,
                weights_only=True,
            )
    if trainer.is_global_zero:
        forget(outputs.resume)
    return checkpoints


def run_record(options: Options, data: DataRecord) -> dict[str, Any]:
    """Return, as plain values, what must not change when a training is resumed: options, data, number of processes."""
    parts = {"your own parts": plugin_hashes()} if plugin_hashes() else {}
    contents = {f"{CONTENT}{name}": digest for name, digest in data.contents.items()}
    # The hash of the data does not tell the orders of one collection apart, and a network file may rely on its order.
    inputs = {INPUTS: list(data.options.get("inputs", ()))}
    return {**deciding_options(options), "data": data.hash, PROCESSES: world_size(), **inputs, **contents, **parts}


def deciding_options(options: Options) -> dict[str, Any]:
    """Return, as plain values, the options on which the result of a training depends."""
    kept = {name for section in _DECIDING for name in inspect.get_annotations(section)} - _HARMLESS
    if is_for_a_point(options):
        kept |= _WORKING_POINT
    return options.model_dump(mode="json", include=kept)


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    # Of this package, the version of the code that runs, which a source tree has without being installed.
    own = {"python": platform.python_version(), "phaze-ee": VERSION}
    return own | {name: importlib.metadata.version(name) for name in _PACKAGES}


def _trainer(
    options: Options, outputs: Outputs, device: torch.device, callbacks: list[Callback], point: ResumePoint | None
) -> Trainer:
    # Curves after the saved state are hidden, because they are computed again.
    hidden_from = None if point is None else point.step + 1
    return Trainer(
        **strategy(options),
        **hardware(options, device),
        accumulate_grad_batches=options.accumulate_batches,
        sync_batchnorm=device.type == "cuda",
        max_epochs=options.epochs,
        check_val_every_n_epoch=options.val_interval,
        log_every_n_steps=options.log_interval,
        logger=open_logger(options, outputs.logs, outputs.project, hidden_from) or False,
        callbacks=callbacks,
        plugins=[*environment(), AtomicCheckpoints()],
        default_root_dir=outputs.logs,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )


@contextmanager
def _reporting_interrupts(module: TaggerModule, outputs: Outputs) -> Iterator[None]:
    """Report Ctrl-C as an error. Lightning would exit without a message, and ignore a second Ctrl-C."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        further = "the same command continues, and " if outputs.resume.exists() else ""
        raise RunError(
            f"interrupted in epoch {module.current_epoch + 1}; {further}{outputs.models / 'latest_model.pt'} holds the "
            "network at that point"
        ) from stop
    finally:
        signal.signal(signal.SIGINT, handler)
