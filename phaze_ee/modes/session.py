"""One command on one project: everything that modes ask for is found out once, when it is first asked for.

The command line opens a session before it imports torch, so heavy libraries are imported in the methods that use them.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, final

from phaze_ee.errors import CheckpointError, UsageError
from phaze_ee.modes.request import Request
from phaze_ee.workspace import Project, find_file, home_path

if TYPE_CHECKING:
    import torch

    from phaze_ee.config.load import Configuration
    from phaze_ee.config.options import Options
    from phaze_ee.data.cache.reader import Cache
    from phaze_ee.data.schema import DataSchema
    from phaze_ee.exits.policy_file import KeptPolicy
    from phaze_ee.models.tagger import Tagger
    from phaze_ee.results.base import Provenance
    from phaze_ee.types import JetBatch

FileOption = Literal["train_files", "val_files", "test_files", "calibration_files"]


@final
@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A tagger ready for inference, and where it comes from.

    Attributes:
        tagger: in evaluation mode, on the CPU.
        schema: the data configuration of its training.
        source: the file and the epoch, in words.
        title: the same without the folders.
        hash: SHA-256 of the file with its weights, computed from the bytes that were loaded.
        notes: what a reader of its results should know.
        options: the options of its training; None: it was not trained here.
    """

    tagger: "Tagger"
    schema: "DataSchema"
    source: str
    title: str
    hash: str
    notes: tuple[str, ...] = ()
    options: Mapping[str, Any] | None = None


@final
class Session:
    """One command on one project.

    Properties read what they need when they are first used and keep it: the configuration is run once, the checkpoint
    is read and hashed once, the patterns of files are expanded once.

    Attributes:
        request: the command line.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self._files: dict[FileOption, list[Path]] = {}
        self._configurations: dict[Path, Configuration] = {}  # shared by all sessions of a command

    @classmethod
    def open(cls, request: Request) -> Self:
        """Return the session of a command line. Nothing is read yet."""
        return cls(request)

    def for_mode(self, mode: str) -> "Session":
        """Return a session of another mode of the same command. The configuration is not run again."""
        return self._reopened(dataclasses.replace(self.request, mode=mode))

    def for_project(self, project: Project) -> "Session":
        """Return a session of the same command on another project."""
        return Session(dataclasses.replace(self.request, workspace=project.workspace, project=project.name))

    def with_flags(self, **flags: Any) -> "Session":
        """Return a session with more options set on the command line. The configuration is not run again."""
        return self._reopened(dataclasses.replace(self.request, flags={**self.request.flags, **flags}))

    def with_options(self, options: "Options") -> "Session":
        """Return a session of the same project, files and model with other options."""
        other = copy(self)
        other.__dict__["options"] = options
        return other

    def _reopened(self, request: Request) -> "Session":
        other = Session(request)
        other._configurations = self._configurations
        return other

    @cached_property
    def project(self) -> Project:
        """The project of ``-p``. It need not exist yet; reading its configuration is an error then.

        Raises:
            UsageError: ``-p`` was not given, or a name is not usable.
        """
        return self.request.named_project

    @property
    def configuration(self) -> "Configuration":
        """What the configuration file of the project sets.

        Raises:
            UsageError: there is no such project, or its configuration is wrong.
        """
        from phaze_ee.config.load import Configuration

        path = self.request.existing_project.config
        if path not in self._configurations:
            self._configurations[path] = Configuration.read(path)
        return self._configurations[path]

    @cached_property
    def options(self) -> "Options":
        """The options of the configuration and of the command line, which overrides it.

        Raises:
            UsageError: an option is missing or wrong.
        """
        return self.configuration.options(self.request.flags)

    @property
    def seed_count(self) -> int | None:
        """How many seeds ``--seeds`` or ``c.seeds`` asks for; None: the command is for the project itself.

        Raises:
            UsageError: an option is missing or wrong.
        """
        return self.options.seeds if "seeds" in self.request.flags or self.project.config.is_file() else None

    @cached_property
    def schema(self) -> "DataSchema":
        """The data configuration, as its YAML file has it.

        Raises:
            UsageError: the file is missing, or ``c.num_classes`` or ``c.background`` does not fit it.
            DataError: the data configuration is wrong.
        """
        from phaze_ee.data.schema import DataSchema, choose_background
        from phaze_ee.modes.classes import check_labels, class_count

        options, project = self.options, self.project
        path = find_file("data_config", options.data_config, project.root)
        schema = DataSchema.load(
            path,
            trusted=options.trust_expressions,
            bad_values=options.bad_values,
            class_count=partial(class_count, self, path),
        )
        if options.num_classes not in (None, len(schema.class_names)):
            raise UsageError(
                f"{project.config}: num_classes = {options.num_classes}, but {options.data_config} has "
                f"{len(schema.class_names)} classes; correct num_classes or remove it"
            )
        check_labels(self, schema)
        choose_background(schema.class_names, options.background)  # a wrong name ends here, not after the training
        return schema

    @cached_property
    def device(self) -> "torch.device":
        """The device of the option ``device``.

        Raises:
            UsageError: CUDA is wanted and this machine has none.
        """
        from phaze_ee.machine import resolve_device

        return resolve_device(self.options.device)

    @cached_property
    def model(self) -> TrainedModel:
        """The best model of the project; before any training, the network with the weights of ``c.init_from``.

        Raises:
            CheckpointError: there is neither, or the file cannot be used.
        """
        project = self.project
        if project.best_model.is_file():
            return self._best_model()
        _ = self.schema  # a wrong configuration is reported first
        if self.options.init_from is not None:
            return self._initial_model()
        remedy = f"train it first: phaze_ee -m train -p {project.workspace} {project.name}"
        if project.seeds_results.is_file():
            remedy = "it has seeds: add --seeds, or name the project of one"
        raise CheckpointError(f"project {project} has no model yet ({project.best_model} does not exist); {remedy}")

    @property
    def has_model(self) -> bool:
        """Whether there are weights: a best model, or those of ``c.init_from``."""
        return self.project.best_model.is_file() or self.options.init_from is not None

    def provenance(
        self, files: Sequence[Path], notes: Sequence[str], schema: "DataSchema | None" = None
    ) -> "Provenance":
        """Return where results of the model on some files come from.

        Args:
            files: the files.
            notes: what a reader of the results should know.
            schema: what read the files; None: the data configuration of the model.

        Raises:
            DataError: a file does not exist any more.
        """
        from phaze_ee.data.files import fingerprint
        from phaze_ee.data.selections import rows_hash
        from phaze_ee.results.base import Provenance

        model, own = self.model, schema or self.model.schema
        jets = (files, notes, fingerprint(files, own), self.project.history_hash)
        return Provenance(
            str(self.project), model.source, model.hash, *jets, self.options.precision, rows_hash(files, own)
        )

    @cached_property
    def background(self) -> str | None:
        """The background class among the classes of the model; None: rejections and cuts have no background."""
        from phaze_ee.data.schema import choose_background

        return choose_background(self.model.schema.class_names, self.options.background)

    @cached_property
    def policy(self) -> "KeptPolicy | None":
        """The policy of ``--policy``, else the active one of the project; None without one.

        Raises:
            UsageError: the file cannot be read, or the policy is unknown, of another model, or of another precision.
        """
        from phaze_ee.modes.policies import policy_for

        return policy_for(self.project, self.request.policy, self.model.hash, self.options.precision)

    @property
    def judged_files(self) -> FileOption:
        """The option that names the jets to judge a model on: the test files, else the validation files."""
        return "test_files" if self.options.test_files else "val_files"

    def files(self, option: FileOption) -> list[Path]:
        """Return the files that the patterns of an option match; those of training if there are no validation files.

        Raises:
            UsageError: a pattern matches no file.
        """
        from phaze_ee.data.files import expand_patterns

        if option == "val_files" and not self.options.val_files:
            option = "train_files"  # their last rows validate
        if option not in self._files:
            where = f"{self.project.config}: {option}"
            self._files[option] = expand_patterns(where, getattr(self.options, option), self.project.root)
        return self._files[option]

    def build(self, schema: "DataSchema") -> "Tagger":
        """Build the configured network, with the weights of ``c.init_from`` if this is set.

        Raises:
            UsageError: the network file or an option of the network is wrong.
            CheckpointError: ``c.init_from`` cannot be used.
        """
        return self._built(schema)[0]

    def _built(self, schema: "DataSchema") -> tuple["Tagger", str]:
        from phaze_ee.models.build import build_tagger
        from phaze_ee.models.checkpoint import load_weights
        from phaze_ee.modes.start import check_kept_classes

        options = self.options
        path = find_file("network_config", options.network_file_for(len(schema.collections)), self.project.root)
        try:
            tagger = build_tagger(options, path, schema.weaver)
        except UsageError as error:
            raise UsageError(f"{self.project.config}: {error}") from error
        if options.init_from is None:
            return tagger, ""
        check_kept_classes(self, tagger.architecture)
        file = find_file("init_from", options.init_from, self.project.root)
        return tagger, load_weights(tagger, file, options.fresh_layers)

    def _best_model(self) -> TrainedModel:
        from phaze_ee.data.changes import with_free_sections_of
        from phaze_ee.data.schema import DataSchema
        from phaze_ee.models.checkpoint import load_checkpoint
        from phaze_ee.modes.checkpoint_fit import check_fit, current_schema, model_notes

        path, now = self.project.best_model, current_schema(self)  # a wrong one is reported first
        checkpoint = load_checkpoint(path, trust=self.request.trust)
        trusted = frozenset() if now is None else now.trusted
        schema = DataSchema.from_options(checkpoint.data_options, str(path), trusted, self.options.bad_values)
        check_fit(checkpoint.tagger, schema, path)
        schema = schema if now is None else with_free_sections_of(schema, now)
        notes = model_notes(self, schema, now, checkpoint.options)
        source, title = (f"{name} (epoch {checkpoint.epoch + 1})" for name in (path, path.name))
        return TrainedModel(checkpoint.tagger, schema, source, title, checkpoint.hash, notes, checkpoint.options)

    def _initial_model(self) -> TrainedModel:
        import torch

        from phaze_ee.modes.start import initial_schema, start_notes

        schema = initial_schema(self)
        fresh = ", ".join(["the exits", *self.options.fresh_layers])
        notes = (f"not trained here: {fresh} have random weights unless init_from holds them", *start_notes(self))
        # Exits that init_from does not hold start at random weights, but at the same in every mode.
        with torch.random.fork_rng():
            torch.manual_seed(self.options.seed or 0)
            tagger, digest = self._built(schema)
        source = f"init_from {self.options.init_from}"
        return TrainedModel(tagger.eval(), schema, source, source, digest, notes)

    @property
    def cache_root(self) -> Path:
        """The folder of the project's caches: ``c.cache_folder``, or one in its data folder."""
        chosen = self.options.cache_folder
        return self.project.data / "cache" if chosen is None else home_path(chosen)

    def cache(
        self, schema: "DataSchema", files: Sequence[Path], *, training: bool = False, labelled: bool = True
    ) -> "Cache | None":
        """Return the cache that mode convert made of some files, if ``c.use_cache`` allows it; else None.

        Args:
            schema: for training, as the YAML has it; for evaluation, resolved.
            files: in the order in which they would be read.
            training: whether the jets are for training, or for evaluation.
            labelled: whether the labels are wanted.

        Raises:
            UsageError: there is none, and ``c.use_cache`` is "always".
            DataError: a file does not exist any more, or the cache is damaged.
        """
        from phaze_ee.data.cache.reader import find_cache
        from phaze_ee.modes.console import say, say_in_columns

        if self.options.use_cache == "never":
            return None
        root = self.cache_root
        cache = find_cache(root, schema, files, training=training, labelled=labelled)
        purpose = "training" if training else "evaluation"
        if cache is not None:
            say(f"Cache: {cache.folder} ({cache.jet_count:,} jets for {purpose})")
            return cache
        remedy = f"phaze_ee -m convert -p {self.project.workspace} {self.project.name}"
        if self.options.use_cache == "always":
            raise UsageError(
                f"c.use_cache is 'always', but {root} has no cache for {purpose} of {files[0]} … as they are now and "
                f"of this data config; make one: {remedy}"
            )
        if any(root.glob(f"{purpose}_*")):
            say_in_columns(
                f"Note: {root} has no cache for {purpose} of these files as they are now and of this data config, so "
                f"the files are read. {remedy} would make one."
            )
        return None

    def evaluation_jets(
        self, schema: "DataSchema", files: Sequence[Path], *, labelled: bool = True, batch_size: int | None = None
    ) -> "Iterable[JetBatch]":
        """Return every jet of some files once, in order; from a cache where there is one.

        Args:
            schema: resolved.
            files: in the order in which they are read.
            labelled: whether the labels are wanted.
            batch_size: jets per batch; None: that of the configuration.

        Raises:
            UsageError: ``c.use_cache`` is "always", and there is no cache.
            DataError: a file cannot be used.
        """
        from phaze_ee.data.loaders import evaluation_loader

        return evaluation_loader(
            schema,
            files,
            batch_size=batch_size or self.options.batch_size,
            num_workers=self.options.num_workers,
            labelled=labelled,
            cache=self.cache(schema, files, labelled=labelled),
        )
