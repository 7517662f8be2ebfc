"""From a project's name to what the modes work on: options, data configuration, files, tagger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from phaze_ee.config.load import load_options
from phaze_ee.config.options import Options
from phaze_ee.data.cache.reader import Cache, find_cache
from phaze_ee.data.files import expand_patterns
from phaze_ee.data.schema import DataSchema, choose_background
from phaze_ee.errors import CheckpointError, UsageError
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.models import checkpoint
from phaze_ee.models.build import build_tagger
from phaze_ee.models.checkpoint import load_checkpoint, load_weights
from phaze_ee.models.tagger import Tagger
from phaze_ee.modes.console import console
from phaze_ee.modes.request import Request
from phaze_ee.workspace import Project, find_file

FileOption = Literal["train_files", "val_files", "test_files", "calibration_files"]


@dataclass(frozen=True)
class Setup:
    """A project with its configuration read and checked."""

    project: Project
    options: Options
    schema: DataSchema

    def files(self, option: FileOption) -> list[Path]:
        """Return the files that an option's patterns name.

        Raises:
            UsageError: a pattern names none.
        """
        where = f"{self.project.config}: {option}"
        return expand_patterns(where, getattr(self.options, option), self.project.root)

    @property
    def judged_files(self) -> FileOption:
        """The option that names the jets to judge a model on: the test files, or the validation files without any."""
        return "test_files" if self.options.test_files else "val_files"

    def build(self, schema: DataSchema) -> Tagger:
        """Build the configured network, starting from ``c.init_from`` where that is set.

        Raises:
            UsageError: the network file or an option of the network is wrong.
            CheckpointError: ``c.init_from`` cannot be used.
        """
        options = self.options
        network_config = find_file("network_config", options.network_file, self.project.root)
        try:
            tagger = build_tagger(options, network_config, schema.weaver)
        except UsageError as error:
            raise UsageError(f"{self.project.config}: {error}") from error
        if options.init_from is not None:
            load_weights(tagger, find_file("init_from", options.init_from, self.project.root))
        return tagger


@dataclass(frozen=True)
class Trained:
    """A tagger that answers, the data configuration it was trained with, and where it comes from."""

    tagger: Tagger
    schema: DataSchema
    source: str
    notes: tuple[str, ...] = ()
    options: Mapping[str, Any] | None = None  # those of the training, None where there was none


def load_setup(request: Request) -> Setup:
    """Read the configuration of the request's project.

    Raises:
        UsageError: the project or something in its configuration is missing or wrong.
        DataError: the data configuration is wrong.
    """
    project = request.existing_project
    options = load_options(project.config, request.flags)
    schema = DataSchema.load(find_file("data_config", options.data_config, project.root))
    if options.num_classes not in (None, len(schema.class_names)):
        raise UsageError(
            f"{project.config}: num_classes = {options.num_classes}, but {options.data_config} has "
            f"{len(schema.class_names)} classes; correct num_classes or remove it"
        )
    choose_background(schema.class_names, options.background)  # a wrong name ends here, not after the training
    return Setup(project, options, schema)


def load_trained(setup: Setup) -> Trained:
    """Return the project's best model; before any training, the weights of ``c.init_from``.

    Raises:
        CheckpointError: there is neither, or the file cannot be used.
    """
    project = setup.project
    if project.best_model.is_file():
        checkpoint = load_checkpoint(project.best_model)
        schema = DataSchema.from_options(checkpoint.data_options)
        notes = _changes(setup, schema)
        return Trained(
            checkpoint.tagger, schema, f"{project.best_model} (epoch {checkpoint.epoch + 1})", notes, checkpoint.options
        )
    if setup.options.init_from is not None:
        schema = setup.schema
        if schema.needs_standardisation:
            schema = schema.resolve(setup.files("train_files"))
        note = "not trained here: the exits have random weights unless init_from holds them"
        # Exits that init_from does not hold start at random weights, but at the same in every mode.
        with torch.random.fork_rng():
            torch.manual_seed(setup.options.seed or 0)
            tagger = setup.build(schema)
        return Trained(tagger.eval(), schema, f"init_from {setup.options.init_from}", (note,))
    raise CheckpointError(
        f"project {project} has no model yet ({project.best_model} does not exist); train it first: "
        f"phaze_ee -m train -p {project.workspace} {project.name}"
    )


def _changes(setup: Setup, trained_with: DataSchema) -> tuple[str, ...]:
    if setup.schema.class_names != trained_with.class_names:
        return (f"data_config {setup.options.data_config} has changed since the training; the model's own is used",)
    return ()


def cache_root(setup: Setup) -> Path:
    """Return the folder of the project's caches: ``c.cache_folder``, or one in its data folder."""
    chosen = setup.options.cache_folder
    return setup.project.data / "cache" if chosen is None else Path(chosen).expanduser()


def cached_jets(
    setup: Setup, schema: DataSchema, files: Sequence[Path], *, training: bool = False, labelled: bool = True
) -> Cache | None:
    """Return the cache that mode convert made of these files, where ``c.use_cache`` lets it be used; else None.

    Args:
        setup: the project.
        schema: for training, as the YAML has it; for evaluation, resolved.
        files: in the order in which they would be read.
        training: whether the jets are for training, or for evaluation.
        labelled: whether the labels are wanted.

    Raises:
        UsageError: there is none, and ``c.use_cache`` is "always".
        DataError: a file does not exist any more, or the cache is damaged.
    """
    if setup.options.use_cache == "never":
        return None
    root = cache_root(setup)
    cache = find_cache(root, schema, files, training=training, labelled=labelled)
    purpose = "training" if training else "evaluation"
    if cache is not None:
        console.print(f"Cache: {cache.folder} ({cache.jet_count:,} jets for {purpose})", soft_wrap=True, markup=False)
        return cache
    remedy = f"phaze_ee -m convert -p {setup.project.workspace} {setup.project.name}"
    if setup.options.use_cache == "always":
        raise UsageError(
            f"c.use_cache is 'always', but {root} has no cache for {purpose} of {files[0]} … as they are now and of "
            f"this data config; make one: {remedy}"
        )
    if any(root.glob(f"{purpose}_*")):
        console.print(
            f"Note: {root} has no cache for {purpose} of these files as they are now and of this data config; the "
            f"files are read. {remedy} would make one.",
            soft_wrap=True,
            markup=False,
        )
    return None


def policy_of_model(project: Project, model_hash: str | None) -> ExitPolicyFile | None:
    """Return the project's policy; None without one, and with a word about it where it belongs to another model.

    Raises:
        UsageError: it cannot be read.
    """
    if not project.exit_policy.is_file():
        return None
    file = ExitPolicyFile.read(project.exit_policy, made_by="calibrate")
    if file.model_hash == model_hash:
        return file
    note = (
        f"{project.exit_policy} was calibrated for another model, or for this one before it was trained anew, and is "
        "left out: run mode 'calibrate' again"
    )
    console.print(f"Note: {note}", soft_wrap=True, markup=False)
    return None


def weights_hash(setup: Setup) -> str | None:
    """Return the SHA-256 of the file that ``load_trained`` takes weights from; None where there is none."""
    path = setup.project.best_model
    if path.is_file():
        return checkpoint.weights_hash(path)
    if setup.options.init_from is None:
        return None
    return checkpoint.weights_hash(find_file("init_from", setup.options.init_from, setup.project.root))
