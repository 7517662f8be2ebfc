"""What a weaver data YAML says about the data: classes, inputs, selection, weights."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

from weaver.utils.data.config import DataConfig

from phaze_ee.data.resolve import resolved_options
from phaze_ee.data.weaver_yaml import check_options, read_options
from phaze_ee.errors import DataError

KINDS = ("points", "features", "vectors", "mask")


@final
class DataSchema:
    """A checked weaver data configuration.

    Attributes:
        options: the configuration as plain values, with resolved standardisation and reweighting where known.
        weaver: weaver's own view of it.
        class_names: the label of each class, in the order of the network's outputs.
        groups: the input group (a name of the YAML) of each kind: points, features, vectors, mask.
        length: P, the particles that a jet is padded or cut to.
        feature_count: C, the channels of the features group.
    """

    def __init__(self, options: Mapping[str, Any], origin: str = "data config") -> None:
        """Check ``options``, as a weaver YAML holds them; ``origin`` says in errors where they come from."""
        check_options(options, origin)
        # weaver writes into the mapping it gets, and into nested ones
        self.options: dict[str, Any] = copy.deepcopy(dict(options))
        self.weaver = _weaver_config(self.options, origin)
        self.class_names: tuple[str, ...] = tuple(self.weaver.label_value)
        self.groups = _input_groups(self.weaver, origin)
        self.length: int = self.weaver.input_shapes[self.groups["features"]][2]
        self.feature_count: int = self.weaver.input_shapes[self.groups["features"]][1]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a weaver data YAML.

        Raises:
            DataError: the file cannot be read, or something in it is wrong.
        """
        return cls(read_options(path), str(path))

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Rebuild a schema from its ``options``, for example those of a checkpoint."""
        return cls(options)

    def __reduce__(self) -> tuple[Any, ...]:
        # DataConfig cannot be unpickled (its __getattr__ recurses), and worker processes need the schema
        return type(self).from_options, (self.options,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataSchema) and self.options == other.options

    def __hash__(self) -> int:
        return hash(json.dumps(self.options, sort_keys=True))

    @property
    def needs_standardisation(self) -> bool:
        """Whether centres and scales marked ``auto`` are still to be computed from training files."""
        return any(params["center"] == "auto" for params in self.weaver.preprocess_params.values())

    @property
    def needs_reweighting(self) -> bool:
        """Whether the histograms for reweighting are still to be computed from training files."""
        weights: dict[str, Any] = self.options.get("weights") or {"use_precomputed_weights": True}
        return not weights["use_precomputed_weights"] and not weights.get("reweight_hists")

    @property
    def bytes_per_jet(self) -> int:
        """The size of one jet's input tensors."""
        channels: int = sum(self.weaver.input_shapes[name][1] for name in self.groups.values())
        return 4 * channels * self.length

    def resolve(self, train_files: Sequence[Path]) -> "DataSchema":
        """Return the schema with automatic standardisation and reweighting computed from the training files.

        Raises:
            DataError: a file cannot be used.
        """
        if not (self.needs_standardisation or self.needs_reweighting):
            return self
        return type(self)(resolved_options(self.options, self.weaver, train_files))

    def with_observers(self, names: Sequence[str]) -> "DataSchema":
        """Return the schema with other observers.

        Raises:
            DataError: weaver refuses them.
        """
        return type(self)({**self.options, "observers": list(names) or None, "monitor_variables": None})

    def config_for(self, *, training: bool, labelled: bool) -> DataConfig:
        """Return a weaver configuration that asks for no column which the purpose can do without."""
        options = copy.deepcopy(self.options)
        if training:
            options["observers"] = None
        else:
            options["weights"] = None
        if not labelled:
            options["labels"] = {"type": "simple", "value": []}
        return DataConfig(print_info=False, **options)


def _weaver_config(options: Mapping[str, Any], origin: str) -> DataConfig:
    try:
        return DataConfig(print_info=False, **copy.deepcopy(dict(options)))
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, SyntaxError) as error:
        raise DataError(f"{origin}: weaver refuses it: {' '.join(str(error).split())}") from error


def _input_groups(config: DataConfig, origin: str) -> dict[str, str]:
    """Return the input group of each kind, found by its suffix."""
    by_kind: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name in config.input_names:
        by_kind.setdefault(name.rsplit("_", 1)[-1], []).append(name)
    unknown = [name for kind, names in by_kind.items() if kind not in KINDS for name in names]
    repeated = [name for kind in KINDS for name in by_kind[kind][1:]]
    if unknown or repeated:
        raise DataError(
            f"{origin}: input groups {', '.join(unknown + repeated)} cannot be used: a network gets one group each of "
            "*_points, *_features, *_vectors and *_mask; remove the others"
        )
    for kind in ("points", "features"):
        if not by_kind[kind]:
            raise DataError(f"{origin}: there is no input group *_{kind}; add one, for example pf_{kind}")
    groups = {kind: names[0] for kind, names in by_kind.items() if names}
    _check_shapes(config, groups, origin)
    return groups


def _check_shapes(config: DataConfig, groups: Mapping[str, str], origin: str) -> None:
    channels = {kind: config.input_shapes[name][1] for kind, name in groups.items()}
    lengths = {name: config.input_shapes[name][2] for name in groups.values()}
    for kind, expected in (("vectors", 4), ("mask", 1)):
        if channels.get(kind, expected) != expected:
            raise DataError(f"{origin}: {groups[kind]} has {channels[kind]} variables, it needs {expected}")
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{origin}: the input groups differ in length ({listed}); give all the same")
