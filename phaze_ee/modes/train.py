"""Mode train: fit the network and its exits."""

import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning import seed_everything

from phaze_ee.config.options import Options
from phaze_ee.data.files import fingerprint
from phaze_ee.data.held_out import Part
from phaze_ee.data.loaders import evaluation_loader, training_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.models.device import resolve_device
from phaze_ee.modes.console import console
from phaze_ee.modes.inputs import Setup, load_setup
from phaze_ee.modes.request import Request
from phaze_ee.training.cached_loaders import Loaders
from phaze_ee.training.run import DataRecord, Outputs, train
from phaze_ee.types import JetBatch


def run(request: Request) -> None:
    """Train the project of ``-p`` and say where the models are."""
    setup = load_setup(request)
    options = _with_seed(setup.options)
    train_files, val_files = setup.files("train_files"), setup.files("val_files")
    schema = setup.schema.resolve(train_files)
    assert options.seed is not None
    seed_everything(options.seed, workers=True, verbose=False)
    tagger = setup.build(schema)
    loaders = Loaders(
        train=training_loader(
            schema,
            train_files,
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            seed=options.seed,
            rank=int(os.environ.get("RANK", "0")),
            world_size=int(os.environ.get("WORLD_SIZE", "1")),
        ),
        val=_validation_jets(schema, val_files, options),
    )
    _announce(setup, options, loaders)
    project = setup.project
    outputs = Outputs(project.models, project.logs, project.training_history, str(project))
    data = DataRecord(schema.options, fingerprint([*train_files, *val_files], schema))
    checkpoints = train(tagger, loaders, options, outputs, data, console)
    if checkpoints.best_epoch is None:
        return  # another process of this run writes the models
    console.print(
        f"Best model: epoch {checkpoints.best_epoch + 1}, validation accuracy {checkpoints.best_accuracy:.4f} "
        + ("on average over the exits" if options.freeze_backbone else "of the full model")
    )
    console.print(f"  {project.best_model}", soft_wrap=True)


def _validation_jets(schema: DataSchema, files: Sequence[Path], options: Options) -> Iterable[JetBatch]:
    """Return the jets by which the best epoch is chosen: without those that calibrate will need."""
    loader = evaluation_loader(schema, files, batch_size=options.batch_size, num_workers=options.num_workers)
    return loader if options.calibration_files else Part(loader, options.calibration_share, held_out=False)


def _with_seed(options: Options) -> Options:
    if options.seed is not None:
        return options
    return options.model_copy(update={"seed": secrets.randbits(31)})


def _announce(setup: Setup, options: Options, loaders: Loaders) -> None:
    device = resolve_device(options.device).type
    console.print(f"Training {setup.project} on {device}, {options.exit_loss_strategy}, seed {options.seed}")
    share = " for each process" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
    console.print(f"{loaders.train.jet_count:,} jets{share}, {options.epochs} epochs of {len(loaders.train)} batches")
    if options.use_amp and device == "cpu":
        console.print("Mixed precision (use_amp) is off: it needs CUDA.")
