"""The content of a weaver data YAML: classes, inputs, selection, weights."""

import copy
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self, final

import awkward as ak
from weaver.utils.data.config import DataConfig
from weaver.utils.data.preprocess import AutoStandardizer

from phaze_ee.data.bad_values import BadValues, without_nan
from phaze_ee.data.file_part import WHOLE, FilePart
from phaze_ee.data.stamps import unchanged
from phaze_ee.data.table import check_finite, training_tables
from phaze_ee.data.targets import target_scales
from phaze_ee.data.weaver_yaml import check_options, read_options, texts_in
from phaze_ee.data.weights import reweighting
from phaze_ee.data.weights_section import plain_weights
from phaze_ee.data.yaml_forms import is_class_number, usual_form
from phaze_ee.errors import DataError, UsageError
from phaze_ee.input_groups import InputCollection, input_collections, jet_globals, targets_in

logger = logging.getLogger(__name__)

DEFAULT_BACKGROUND = "label_QCD"


@final
class DataSchema:
    """A checked weaver data configuration.

    Attributes:
        options: the configuration as plain values, with standardisation and reweighting where they are known.
        origin: the file where it comes from, for errors.
        weaver: weaver's own object for it.
        class_names: the name of each class, in the order of the network's outputs: its label, or that of labels.names.
        labels: the label of each class: an expression that is 1 for its jets, and 0 for others.
        targets: the expression of each number that is predicted beside the class, by name; usually none.
        collections: the collections of a jet: particles, and others such as secondary vertices.
        globals: the numbers of the jet itself among the inputs; None: there are none.
        groups: the input group (a name of the YAML) of each kind of the first collection.
        length: P, the particles of the first collection that a jet is padded or cut to.
        feature_count: C, the features of a particle of the first collection.
        trusted: expressions of the user's own that may be any Python, see ``trust_expressions``.
        bad_values: what becomes of inputs that are NaN or infinite, see ``bad_values`` of the configuration.
        part: the rows of each file that are read, see ``validation_share`` of the configuration; usually all.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        origin: str = "data config",
        trusted: Collection[str] = frozenset(),
        bad_values: BadValues = "refuse",
        part: FilePart = WHOLE,
    ) -> None:
        """Check a configuration.

        Args:
            options: the content of a weaver YAML.
            origin: where it comes from, for errors.
            trusted: expressions that may be any Python.
            bad_values: what becomes of inputs that are NaN or infinite.
            part: the rows of each file that are read.

        Raises:
            DataError: something in it is wrong.
        """
        options = usual_form(options)
        if options.get("weights") is not None:
            options = {**options, "weights": plain_weights(options["weights"])}
        check_options(options, origin, trusted)
        self.origin = origin
        self.trusted, self.bad_values, self.part = frozenset(trusted), bad_values, part
        # weaver changes the mapping that it gets, and nested ones.
        self.options: dict[str, Any] = copy.deepcopy(dict(options))
        self.weaver = _weaver_config(self.options, origin, part)
        self.labels: tuple[str, ...] = tuple(self.weaver.label_value)
        self.class_names: tuple[str, ...] = tuple(self.options["labels"].get("names") or self.labels)
        self.targets = targets_in(self.weaver)
        self.collections = input_collections(self.weaver, origin)
        _check_masks(self.weaver, self.collections, origin)
        self.globals = jet_globals(self.weaver, origin)
        self.groups = self.collections[0].groups
        self.length = self.collections[0].length
        self.feature_count = self.collections[0].feature_count

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        trusted: bool = False,
        bad_values: BadValues = "refuse",
        class_count: Callable[[], int | None] = lambda: None,
    ) -> Self:
        """Read a weaver data YAML.

        Args:
            path: the file.
            trusted: whether its expressions may be any Python: it is the user's own and they say so.
            bad_values: what becomes of inputs that are NaN or infinite.
            class_count: gives the number of classes K; called if the label is the number of the class.

        Raises:
            DataError: the file cannot be read, or something in it is wrong.
        """
        options = read_options(path)
        if is_class_number(options.get("labels")):
            options = usual_form(options, class_count(), str(path))
        if options.get("bucketing") is not None:
            logger.warning("%s: bucketing has no effect: jets are read without padding", path)
        return cls(options, str(path), texts_in(options) if trusted else (), bad_values)

    @classmethod
    def from_options(
        cls,
        options: Mapping[str, Any],
        origin: str = "data config",
        trusted: Collection[str] = frozenset(),
        bad_values: BadValues = "refuse",
    ) -> Self:
        """Rebuild a schema from the ``options`` of one, for example those of a checkpoint.

        Args:
            options: of a schema.
            origin: the file that they come from, for errors.
            trusted: expressions that may be any Python, because the user's own data configuration has them too.
            bad_values: what becomes of inputs that are NaN or infinite.

        Raises:
            DataError: something in them is wrong.
        """
        return cls(options, origin, trusted, bad_values)

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes need the schema, and a DataConfig cannot be unpickled: its __getattr__ recurses.
        return type(self), (self.options, self.origin, self.trusted, self.bad_values, self.part)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataSchema) and self._content == other._content

    def __hash__(self) -> int:
        return hash((self.class_names, *self._order))

    @property
    def _content(self) -> tuple[Any, ...]:
        return self.options, self._order, self.part

    @property
    def text(self) -> str:
        """The options, sorted; the order of the collections if there are several, and the part of the files if any."""
        part = [] if self.part == WHOLE else [str(self.part)]
        return " ".join([json.dumps(self.options, sort_keys=True), *self._order, *part])

    @property
    def _order(self) -> list[str]:
        """The collections if there are several: their order says what each input of a network is."""
        return [own.name for own in self.collections] if len(self.collections) > 1 else []

    @property
    def needs_standardisation(self) -> bool:
        """Whether centres and scales of inputs or targets must still be computed from training files."""
        return self.needs_target_scales or self.needs_input_scales

    @property
    def needs_input_scales(self) -> bool:
        """Whether centres and scales marked ``auto`` must still be computed from training files."""
        return any(params["center"] == "auto" for params in self.weaver.preprocess_params.values())

    @property
    def needs_target_scales(self) -> bool:
        """Whether center and spread of the targets must still be computed from training files."""
        return bool(self.targets) and not self.options["labels"].get("target_scales")

    @property
    def needs_reweighting(self) -> bool:
        """Whether the histograms for reweighting must still be computed from training files."""
        weights: dict[str, Any] = self.options.get("weights") or {"use_precomputed_weights": True}
        return not weights["use_precomputed_weights"] and not weights.get("reweight_hists")

    @property
    def bytes_per_jet(self) -> int:
        """Bytes of one jet's padded inputs."""
        return 4 * sum(own.channel_count * own.length for own in self.inputs)

    @property
    def inputs(self) -> tuple[InputCollection, ...]:
        """The collections, and after them the numbers of the jet itself."""
        return self.collections if self.globals is None else (*self.collections, self.globals)

    def resolve(self, train_files: Sequence[Path], training: "DataSchema | None" = None) -> "DataSchema":
        """Return the schema with automatic standardisation and reweighting computed from the training files.

        Args:
            train_files: the training files.
            training: what reads the training jets; None: this schema. The reweighting is that of these jets. As in
                weaver, the standardisation is that of all jets in their rows that pass our own ``selection``.

        Raises:
            DataError: a file cannot be used, or changes meanwhile.
        """
        if not (self.needs_standardisation or self.needs_reweighting):
            return self
        with unchanged(train_files):
            resolved = resolved_sections(self, train_files, training)
        return self.with_options(resolved)

    def with_part(self, part: FilePart) -> "DataSchema":
        """Return the schema that reads other rows of each file."""
        if part == self.part:
            return self
        return type(self)(self.options, self.origin, self.trusted, self.bad_values, part)

    def with_observers(self, names: Sequence[str]) -> "DataSchema":
        """Return the schema with other observers.

        Raises:
            DataError: weaver refuses them.
        """
        return self.with_options({"observers": list(names) or None, "monitor_variables": None})

    def with_options(self, sections: Mapping[str, Any], trusted: Collection[str] = ()) -> "DataSchema":
        """Return the schema with other sections, some of whose expressions may be any Python.

        Raises:
            DataError: something in them is wrong.
        """
        texts = self.trusted | set(trusted)
        return type(self)({**self.options, **sections}, self.origin, texts, self.bad_values, self.part)

    def config_for(self, *, training: bool, labelled: bool) -> DataConfig:
        """Return a weaver configuration that reads only the columns that the purpose needs."""
        options = copy.deepcopy(self.options)
        if training:
            options["observers"] = None
        else:
            options["weights"] = None
        if not labelled:
            options["labels"] = {"type": "simple", "value": []}
        return _weaver_config(options, self.origin, self.part)


def _weaver_config(options: Mapping[str, Any], origin: str, part: FilePart) -> DataConfig:
    try:
        config = DataConfig(print_info=False, **copy.deepcopy(dict(options)))
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, SyntaxError) as error:
        raise DataError(f"{origin}: weaver refuses it: {' '.join(str(error).split())}") from error
    config.origin, config.part = origin, part  # for errors, and for training_tables; not among its options
    return config


def _check_masks(config: DataConfig, collections: Sequence[InputCollection], origin: str) -> None:
    """Refuse a mask that would be standardised: particles and padding would change places, or all would be padding."""
    for group in (own.groups["mask"] for own in collections if "mask" in own.groups):
        for name in config.input_dicts[group]:
            # weaver takes a variable of such a name for a mask, and leaves it as it is.
            if config.preprocess_params[name]["center"] == "auto" and not name.endswith("_mask"):
                raise DataError(
                    f"{origin}: preprocess.method 'auto' would standardise {name} of {group}, and the network would "
                    f"take particles for padding; write [{name}, null], or give it a name that ends in _mask"
                )


def choose_background(class_names: Sequence[str], wanted: str | None) -> str | None:
    """Return the background class: ``wanted``; if that is None, label_QCD if it is a class, else None.

    Raises:
        UsageError: ``wanted`` is not a class.
    """
    if wanted is None:
        return DEFAULT_BACKGROUND if DEFAULT_BACKGROUND in class_names else None
    if wanted in class_names:
        return wanted
    near = get_close_matches(wanted, class_names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(class_names)}"
    raise UsageError(f"background {wanted!r} in the configuration is not a class of the data configuration; {hint}")


def schema_with_inputs_of(
    model: DataSchema, options: dict[str, Any], origin: str, *, trusted: bool = False
) -> DataSchema:
    """Return a data configuration that gives a model the inputs that it was trained with.

    Tree, branch names, selection and formulas are those of ``options``; its labels, weights and observers are ignored.
    The standardisation is the model's.

    Args:
        model: the data configuration of the model.
        options: the content of a weaver data YAML.
        origin: where the options come from, for errors.
        trusted: whether its expressions may be any Python, see :meth:`DataSchema.load`.

    Raises:
        DataError: the options are wrong, or have other input variables or another standardisation.
    """
    unlabelled = {"labels": model.options["labels"], "weights": None, "observers": None, "monitor_variables": None}
    own_texts = model.trusted | (texts_in(options) if trusted else frozenset())
    other = DataSchema({**options, **unlabelled}, origin, own_texts)
    if other.weaver.input_dicts != model.weaver.input_dicts:
        raise DataError(f"{origin}: {_difference(model, other)}; give the inputs of the model, in their order")
    own = model.weaver.preprocess_params
    for name, parameters in other.weaver.preprocess_params.items():
        if parameters["center"] != "auto" and parameters != own[name]:
            wrong = next(key for key in parameters if parameters[key] != own[name][key])
            raise DataError(
                f"{origin}: {name} has {wrong} {parameters[wrong]}, the model was trained with {own[name][wrong]}; "
                "copy the inputs of the model's data config"
            )
    inputs = {key: model.options.get(key) for key in ("inputs", "preprocess")}
    return DataSchema({**other.options, **inputs}, origin, own_texts, model.bad_values)


def _difference(model: DataSchema, other: DataSchema) -> str:
    """Return a description of the first difference between the inputs of two data configurations."""
    ours, theirs = model.weaver.input_dicts, other.weaver.input_dicts
    for group, names in ours.items():
        given = theirs.get(group, [])
        lacking, extra = _without(names, given), _without(given, names)
        if lacking or extra:
            return f"{group} lacks {lacking}" if lacking else f"{group} has {extra}, which the model does not know"
        if given != names:
            return f"the variables of {group} come in another order"
    return f"the model does not know {_without(list(theirs), list(ours))}"


def _without(names: list[str], others: list[str]) -> str:
    return ", ".join(name for name in names if name not in others)


def standardisation(config: DataConfig, files: Sequence[Path], bad_values: BadValues = "refuse") -> dict[str, Any]:
    """Return weaver's preprocessing parameters with the ``auto`` centres and scales computed.

    As in weaver, the centre is the median and 1/scale the larger distance from it to the 16 % and 84 % quantiles, both
    from the first ``data_fraction`` of each file. A NaN that may pass counts as 0.

    Raises:
        DataError: a file cannot be used, or a value is NaN or infinite and may not pass.
    """
    standardizer = AutoStandardizer([], config)
    parameters = standardizer._data_config.preprocess_params
    automatic = {name for name, own in parameters.items() if own["center"] == "auto"}
    for name in automatic:
        if name.endswith("_mask"):
            parameters[name]["center"] = None
    names = {name for name in automatic if parameters[name]["center"] == "auto"}
    tables = []
    for path, table in training_tables(config, files, names, standardizer.load_range[1]):
        for name in names:
            if "bool" in str(table[name].type):  # NumPy has no quantiles of these
                table[name] = ak.values_astype(table[name], "uint8")
            if bad_values == "zero":
                table[name] = without_nan(table, name, path)
            else:
                check_finite(table, name, path)
        tables.append(table)
    resolved: dict[str, Any] = standardizer.make_preprocess_params(ak.concatenate(tables))
    return resolved


def resolved_sections(schema: DataSchema, files: Sequence[Path], training: DataSchema | None = None) -> dict[str, Any]:
    """Return the sections of a schema that it leaves to the training files: see :meth:`DataSchema.resolve`.

    Raises:
        DataError: a file cannot be used.
    """
    resolved: dict[str, Any] = {}
    training = schema if training is None else training
    schema = schema.with_part(training.part)
    if schema.needs_target_scales:
        scales = target_scales(schema.weaver, schema.targets, files)
        resolved["labels"] = {**schema.options["labels"], "target_scales": scales}
    if schema.needs_input_scales:
        params = standardisation(schema.weaver, files, schema.bad_values)
        resolved["preprocess"] = {**(schema.options.get("preprocess") or {}), "params": params}
    if schema.needs_reweighting:
        hists = reweighting(training.weaver, files)
        resolved["weights"] = {**schema.options["weights"], "reweight_hists": hists}
    return resolved
