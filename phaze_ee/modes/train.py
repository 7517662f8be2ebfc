"""Mode train: fit the network and its exits."""

import os
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import seed_everything
from rich.prompt import Confirm

from phaze_ee.config.options import Options
from phaze_ee.data.batches import HeldOut
from phaze_ee.data.cache.reader import Cache
from phaze_ee.data.files import fingerprint
from phaze_ee.data.loaders import evaluation_loader, training_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import UsageError
from phaze_ee.machine import broadcast, resolve_device
from phaze_ee.models.tagger import Tagger
from phaze_ee.modes.console import console
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Setup, cached_jets, load_setup
from phaze_ee.names import quantity
from phaze_ee.training.loaders import Loaders, with_epoch_length
from phaze_ee.training.lock import training_lock
from phaze_ee.training.resume import ResumePoint, find_resume_point, forget
from phaze_ee.training.run import DataRecord, Outputs, run_record, train
from phaze_ee.types import JetBatch
from phaze_ee.workspace import Project

_SHOWN = 3


def resume_point(project: Project, *, fresh: bool, sure: bool) -> ResumePoint | None:
    """Return where the project's interrupted training goes on; None to start from the beginning.

    Args:
        project: the project that is to be trained.
        fresh: start anew; what the interrupted training knows is lost then, and the user is asked before.
        sure: do not ask.

    Raises:
        UsageError: the user says no, or cannot be asked.
    """
    point = find_resume_point(project.resume_point)
    if point is None or not fresh:
        return point
    if not sure:
        _ask(project, point)
    if int(os.environ.get("RANK", "0")) == 0:
        forget(project.resume_point)
    return None


def _ask(project: Project, point: ResumePoint) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"--fresh would discard the interrupted training of {project} ({point.described}), and nobody is there to "
            "be asked; add --yes"
        )
    if not Confirm.ask(f"Discard the interrupted training of {project} ({point.described})?", console=console):
        raise UsageError(f"nothing was changed; without --fresh, the training of {project} goes on")


def check_unchanged(point: ResumePoint, run: Mapping[str, Any], config: str) -> None:
    """Make sure that a training goes on as it began.

    Raises:
        UsageError: an option or the data have changed since.
    """
    changed = [name for name in {**point.run, **run} if point.run.get(name) != run.get(name)]
    if changed:
        names = [_described(name, point.run.get(name), run.get(name)) for name in changed[:_SHOWN]]
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise UsageError(
            f"{config}: changed since the training was interrupted: {'; '.join(names)}{more}; undo that, or start anew "
            "with --fresh"
        )


def _described(name: str, before: object, now: object) -> str:
    return "the data files" if name == "data" else f"{name} was {before!r}, now {now!r}"


def run(request: Request) -> None:
    """Train the project of ``-p``, or go on where that was interrupted, and say where the models are."""
    setup = load_setup(request)
    with _exclusive(setup.project):
        _train(setup, resume_point(setup.project, fresh=request.fresh, sure=request.yes))


@dataclass(frozen=True)
class PreparedTraining:
    """What a training starts from."""

    setup: Setup
    options: Options
    schema: DataSchema
    cache: Cache | None
    tagger: Tagger
    loaders: Loaders


def prepare(setup: Setup, point: ResumePoint | None = None) -> PreparedTraining:
    """Return the project's jets and a fresh network for them, with a seed.

    Raises:
        UsageError: something that the configuration names is missing or wrong.
        DataError: a file cannot be used.
    """
    options = _with_seed(setup.options, point)
    cache = cached_jets(setup, setup.schema, setup.files("train_files"), training=True)
    schema = setup.schema.resolve(setup.files("train_files")) if cache is None else cache.schema
    assert options.seed is not None
    seed_everything(options.seed, workers=True, verbose=False)
    tagger = setup.build(schema)
    return PreparedTraining(setup, options, schema, cache, tagger, _loaders(setup, options, schema, cache))


def _train(setup: Setup, point: ResumePoint | None) -> None:
    ready = prepare(setup, point)
    options, loaders, schema, cache = ready.options, ready.loaders, ready.schema, ready.cache
    _announce(setup, options, loaders)
    project = setup.project
    outputs = Outputs(project.models, project.logs, project.training_history, project.resume_point, str(project))
    files = [*setup.files("train_files"), *setup.files("val_files")]
    # the jets of an epoch come in another order from a cache: what began with one cannot go on without it
    source = "" if cache is None else f" {cache.manifest.key}"
    data = DataRecord(schema.options, fingerprint(files, schema) + source)
    if point is not None:
        check_unchanged(point, run_record(options, data), str(project.config))
        console.print(
            f"Going on from {point.described}, where this training was interrupted; "
            f"{quantity(options.epochs, 'epoch')} in all",
            soft_wrap=True,
        )
    checkpoints = train(ready.tagger, loaders, options, outputs, data, console, point)
    if _rank() or checkpoints.best_epoch is None:
        return  # another process of this run writes the models
    console.print(
        f"Best model: epoch {checkpoints.best_epoch + 1}, validation accuracy {checkpoints.best_accuracy:.4f} "
        + ("on average over the exits" if options.ends_frozen else "of the full model")
    )
    console.print(f"  {project.best_model}", soft_wrap=True)


def train_into(folder: Path, setup: Setup, schema: DataSchema, tagger: Tagger) -> None:
    """Train a tagger on the project's jets; its checkpoints and everything else go to ``folder``.

    Args:
        folder: where ``best_model.pt`` is afterwards.
        setup: names the jets and the options.
        schema: resolved.
        tagger: trained in place.
    """
    options = _with_seed(setup.options, None)
    loaders = _loaders(
        setup, options, schema, cached_jets(setup, setup.schema, setup.files("train_files"), training=True)
    )
    _announce(setup, options, loaders)
    outputs = Outputs(folder, folder / "logs", folder / "history.json", folder / "resume.ckpt", str(setup.project))
    train(tagger, loaders, options, outputs, DataRecord(schema.options, ""), console)


def _loaders(setup: Setup, options: Options, schema: DataSchema, cache: Cache | None) -> Loaders:
    assert options.seed is not None
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    passes = training_loader(
        schema,
        setup.files("train_files"),
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        seed=options.seed,
        rank=_rank(),
        world_size=processes,
        cache=cache,
    )
    return Loaders(
        train=with_epoch_length(passes, options, processes),
        val=_validation_jets(setup, schema, setup.files("val_files")),
    )


def _validation_jets(setup: Setup, schema: DataSchema, files: Sequence[Path]) -> Iterable[JetBatch]:
    """Return the jets by which the best epoch is chosen: without those that calibrate will need."""
    options, cache = setup.options, cached_jets(setup, schema, files)
    loader = evaluation_loader(
        schema, files, batch_size=options.batch_size, num_workers=options.num_workers, cache=cache
    )
    return loader if options.calibration_files else HeldOut(loader, options.calibration_share, held_out=False)


def _exclusive(project: Project) -> AbstractContextManager[None]:
    """Keep other trainings of the project out; of several processes of one training, the first does."""
    return nullcontext() if _rank() else training_lock(project.models / "train.lock")


def _rank() -> int:
    """Return which of the processes of this training this is, as torchrun says it."""
    return int(os.environ.get("RANK", "0"))


def _with_seed(options: Options, point: ResumePoint | None) -> Options:
    if options.seed is not None:
        return options
    seed = broadcast("seed", secrets.randbits(31)) if point is None else point.run["seed"]
    return options.model_copy(update={"seed": seed})


def _how(options: Options) -> str:
    others = {"regime": options.training_regime, "exits": options.exit_link}
    usual = ("ramp", "independent")
    return ", ".join(
        [options.exit_loss_strategy, *(f"{name} {value}" for name, value in others.items() if value not in usual)]
    )


def _announce(setup: Setup, options: Options, loaders: Loaders) -> None:
    device = resolve_device(options.device).type
    console.print(f"Training {setup.project} on {device}, {_how(options)}, seed {options.seed}")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    share = " for each process" if processes > 1 else ""
    epochs = quantity(options.epochs, "epoch")
    console.print(f"{loaders.train.jet_count:,} jets{share}, {epochs} of {len(loaders.train)} batches")
    shared = set(setup.files("train_files")) & set(setup.files("val_files"))
    if shared:
        console.print(
            f"Warning: {min(shared)}{f' and {len(shared) - 1} more' * (len(shared) > 1)} in train_files and in "
            "val_files: validation on jets that were trained on says nothing of others",
            soft_wrap=True,
        )
    if options.use_ddp and processes == 1:
        console.print("use_ddp: this is the only process; torchrun --nproc_per_node=N -m phaze_ee … starts N.")
    if options.use_amp and device == "cpu":
        console.print("Mixed precision (use_amp) is off: it needs CUDA.")
