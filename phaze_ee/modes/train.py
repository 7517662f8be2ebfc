"""Mode train: fit the network and its exits."""

import secrets
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import seed_everything
from rich.prompt import Confirm

from phaze_ee.config.options import Options
from phaze_ee.data.cache.reader import Cache
from phaze_ee.data.files import fingerprint
from phaze_ee.data.loaders import missing_classes, training_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.stamps import unchanged
from phaze_ee.errors import UsageError
from phaze_ee.machine import broadcast, rank, world_size
from phaze_ee.models.tagger import Tagger
from phaze_ee.modes.console import console, say, say_in_columns, short, show
from phaze_ee.modes.jets import (
    choosing_jets,
    named,
    overlap_with_training,
    resolved_schema,
    training_cache,
    training_schema,
    validation_schema,
)
from phaze_ee.modes.session import FileOption, Session
from phaze_ee.modes.start import start_notes
from phaze_ee.modes.working_point import check_signal, training_point
from phaze_ee.names import quantity
from phaze_ee.prediction.columns import check_classes, check_observers
from phaze_ee.results.training import TrainingHistory
from phaze_ee.tables.training import training_table
from phaze_ee.training.loaders import Loaders, with_epoch_length
from phaze_ee.training.lock import training_lock
from phaze_ee.training.losses import WorkingPoint
from phaze_ee.training.resume import CONTENT, INPUTS, ResumePoint, find_resume_point, forget
from phaze_ee.training.run import DataRecord, Outputs, run_record, train
from phaze_ee.workspace import PACKAGE_ROOT, Project, file_hash, find_file

_SHOWN = 3


def resume_point(project: Project, *, fresh: bool, sure: bool) -> ResumePoint | None:
    """Return the state from which an interrupted training resumes; None to start from the beginning.

    Args:
        project: the project to train.
        fresh: discard the interrupted training, after asking the user.
        sure: do not ask.

    Raises:
        UsageError: the user declines, or there is no terminal to ask in.
    """
    point = find_resume_point(project.resume_point)
    if point is None or not fresh:
        return point
    if not sure:
        _ask(project, point)
    if rank() == 0:
        forget(project.resume_point)
    return None


def _ask(project: Project, point: ResumePoint) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"--fresh would discard the interrupted training of {project} ({point.described}), and there is no "
            "terminal to ask in; add --yes"
        )
    if not Confirm.ask(f"Discard the interrupted training of {project} ({point.described})?", console=console):
        raise UsageError(f"nothing was changed; without --fresh, the training of {project} resumes")


def check_unchanged(point: ResumePoint, run: Mapping[str, Any], config: str) -> None:
    """Check that a training resumes as it began.

    Raises:
        UsageError: an option or the data have changed since.
    """
    # An option that did not exist when the training began had its default.
    fields = Options.model_fields.items()
    defaults = {name: field.get_default(call_default_factory=True) for name, field in fields if name in run}
    recent = {name: value for name, value in run.items() if name == INPUTS or name.startswith(CONTENT)}
    began = {**defaults, **recent, **point.run}  # an earlier version did not write these down
    changed = [name for name in {**began, **run} if began.get(name) != run.get(name)]
    if changed:
        names = [_described(name, began.get(name), run.get(name)) for name in changed[:_SHOWN]]
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise UsageError(
            f"{config}: changed since the training was interrupted: {'; '.join(names)}{more}; undo that, or "
            "start again with --fresh"
        )


def _described(name: str, before: object, now: object) -> str:
    if name.startswith(CONTENT):
        return name
    return "the data files or the data config" if name == "data" else f"{name} was {before!r}, now {now!r}"


def run(session: Session) -> None:
    """Train the project of ``-p``, or resume its interrupted training, and say where the models are."""
    request = session.request
    with _exclusive(session.project):
        _train(session, resume_point(session.project, fresh=request.fresh, sure=request.yes))


@dataclass(frozen=True)
class PreparedTraining:
    """Everything that a training starts from."""

    session: Session  # with a seed among its options
    schema: DataSchema
    cache: Cache | None
    tagger: Tagger
    loaders: Loaders
    working: WorkingPoint | None  # that the exits are trained for


def prepare(session: Session, point: ResumePoint | None = None) -> PreparedTraining:
    """Return the jets of the project and a network with fresh weights.

    Raises:
        UsageError: something in the configuration is missing or wrong.
        DataError: a file cannot be used.
    """
    session = _with_seed(session, point)
    if session.options.freeze_backbone and session.options.init_from is None:
        raise UsageError(
            f"{session.project.config}: freeze_backbone would keep random weights; set c.init_from to those of a "
            "trained network, or remove freeze_backbone"
        )
    _check_names(session.schema)
    working = training_point(session.options, session.schema.class_names)
    check_signal(session.options, session.schema.class_names)
    cache = training_cache(session)
    assert session.options.seed is not None
    with unchanged(session.files("train_files")):
        schema = resolved_schema(session, cache)
        seed_everything(session.options.seed, workers=True, verbose=False)
        tagger = session.build(schema)
        return PreparedTraining(session, schema, cache, tagger, _loaders(session, schema, cache), working)


def _check_names(schema: DataSchema) -> None:
    """Refuse names that predict could not tell apart, before hours are spent on the training."""
    targets = tuple(schema.targets)
    check_classes(schema.class_names, targets)
    observers = [name for name in schema.weaver.z_variables if name not in schema.labels]
    check_observers(observers, schema.class_names, targets)


def _train(session: Session, point: ResumePoint | None) -> None:
    ready = prepare(session, point)
    session, loaders, schema, cache = ready.session, ready.loaders, ready.schema, ready.cache
    _announce(session, loaders)
    project, options = session.project, session.options
    outputs = Outputs(
        project.models,
        project.logs,
        project.training_history,
        project.resume_point,
        str(project),
        session.request.details,
    )
    files = [*session.files("train_files"), *session.files("val_files")]
    # A cache gives the jets of an epoch in another order, so a training that began with one cannot resume without it.
    source = "" if cache is None else f" {cache.manifest.key}"
    data = DataRecord(schema.options, fingerprint(files, schema) + source, _contents(session))
    if point is not None:
        check_unchanged(point, run_record(options, data), str(project.config))
        say(
            f"Resuming from {point.described}, where this training was interrupted; "
            f"{quantity(options.epochs, 'epoch')} in all"
        )
    checkpoints = train(ready.tagger, loaders, options, outputs, data, session.device, console, point, ready.working)
    if rank() or checkpoints.best_epoch is None:
        return  # another process of this run writes the models
    show(training_table(TrainingHistory.read(project.training_history, made_by="train"), checkpoints.best_epoch))
    say(f"Best model: {short(project.best_model)} (epoch {checkpoints.best_epoch + 1})")


def _contents(session: Session) -> dict[str, str | None]:
    """Return the SHA-256 of the weights to start from, and of the user's own network file."""
    named = {"init_from": session.options.init_from, "network_config": session.options.network_config}
    found = {name: find_file(name, own, session.project.root) for name, own in named.items() if own is not None}
    # The package's own network files may change in a new version, as the rest of it.
    return {name: file_hash(path) for name, path in found.items() if not path.is_relative_to(PACKAGE_ROOT)}


def train_into(folder: Path, session: Session, schema: DataSchema, tagger: Tagger) -> None:
    """Train a tagger on the jets of the project. All output goes to ``folder``.

    Args:
        folder: where ``best_model.pt`` is afterwards.
        session: the jets and the options.
        schema: the resolved data configuration.
        tagger: trained in place.
    """
    session = _with_seed(session, None)
    working = training_point(session.options, schema.class_names)
    loaders = _loaders(session, schema, training_cache(session))
    _announce(session, loaders)
    outputs = Outputs(folder, folder / "logs", folder / "history.json", folder / "resume.ckpt", str(session.project))
    train(
        tagger,
        loaders,
        session.options,
        outputs,
        DataRecord(schema.options, ""),
        session.device,
        console,
        None,
        working,
    )


def _loaders(session: Session, schema: DataSchema, cache: Cache | None) -> Loaders:
    options = session.options
    assert options.seed is not None
    passes = training_loader(
        training_schema(session, schema),
        session.files("train_files"),
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        seed=options.seed,
        rank=rank(),
        world_size=world_size(),
        data_fraction=options.data_fraction,
        file_fraction=options.file_fraction,
        cache=cache,
    )
    return Loaders(
        train=with_epoch_length(passes, options, world_size()),
        val=choosing_jets(session, schema),
    )


def _exclusive(project: Project) -> AbstractContextManager[None]:
    """Return a lock that keeps other trainings of the project out; the first of several processes takes it."""
    return nullcontext() if rank() else training_lock(project.models / "train.lock")


def _with_seed(session: Session, point: ResumePoint | None) -> Session:
    if session.options.seed is not None:
        return session
    seed = broadcast("seed", secrets.randbits(31)) if point is None else point.run["seed"]
    return session.with_options(session.options.model_copy(update={"seed": seed}))


def _how(options: Options) -> str:
    others = {"regime": options.training_regime, "exits": options.exit_link}
    usual = ("ramp", "independent")
    return ", ".join(
        [options.exit_loss_strategy, *(f"{name} {value}" for name, value in others.items() if value not in usual)]
    )


def _announce(session: Session, loaders: Loaders) -> None:
    options, device = session.options, session.device.type
    say_in_columns(f"Training {session.project} on {device}, {_how(options)}, seed {options.seed}")
    share = " for each process" if world_size() > 1 else ""
    epochs, batches = quantity(options.epochs, "epoch"), quantity(len(loaders.train), "batch")
    precision = "; use_amp is off: it needs CUDA" if options.use_amp and device == "cpu" else ""
    say_in_columns(f"{loaders.train.jet_count:,} jets{share}, {epochs} of {batches}{precision}")
    if not options.val_files:
        say_in_columns(f"Validation: {named(session, 'val_files')}")
        if missing := missing_classes(validation_schema(session, session.schema), session.files("val_files")):
            say_in_columns(
                f"Warning: these rows hold no jets of {', '.join(missing)}, so no figure says how these are "
                "recognised; files that hold one class after the other cannot be divided so: give c.val_files"
            )
    for note in start_notes(session):
        say_in_columns(f"Warning: {note}")
    judged: tuple[FileOption, ...] = ("val_files", "test_files") if options.test_files else ("val_files",)
    for option in judged:
        for warning in overlap_with_training(session, option):
            say_in_columns(f"Warning: {warning}")
    if options.use_ddp and world_size() == 1:
        say_in_columns(
            "use_ddp: this is the only process; torchrun --nproc_per_node=N -m phaze_ee … starts N processes."
        )
