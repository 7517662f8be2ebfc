"""The collections of a jet in a data configuration: particles, and others such as secondary vertices."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from weaver.utils.data.config import DataConfig

from phaze_ee.errors import DataError

KINDS = ("points", "features", "vectors", "mask")
_GLOBALS = "globals"  # how the name of a group ends that holds numbers of the jet itself


@final
@dataclass(frozen=True)
class InputCollection:
    """A collection of particles, which a network gets as points, features, vectors and mask.

    Attributes:
        name: how the names of its input groups begin, for example ``sv`` of ``sv_features``.
        groups: the input group (a name of the YAML) of each kind.
        length: P, the particles that a jet is padded or cut to.
        feature_count: C, the channels of the features.
        channel_count: the channels of all kinds.
    """

    name: str
    groups: Mapping[str, str]
    length: int
    feature_count: int
    channel_count: int


def input_collections(config: DataConfig, origin: str) -> tuple[InputCollection, ...]:
    """Return the collections of a data configuration, in its order.

    The end of an input group's name is its kind. If a kind occurs twice, the beginning of the name is the collection.

    Args:
        config: weaver's data configuration.
        origin: where it comes from, for errors.

    Raises:
        DataError: a name has no known end, a collection has no features, or its groups do not fit together.
    """
    parts = {name: own for name in config.input_names if (own := _split(name))[1] != _GLOBALS}
    unknown = [name for name, (_, kind) in parts.items() if kind not in KINDS]
    if unknown:
        raise DataError(
            f"{origin}: input groups {', '.join(unknown)} cannot be used: a network gets *_points, *_features, "
            "*_vectors and *_mask of each collection; rename or remove the others"
        )
    kinds = [kind for _, kind in parts.values()]
    groups: dict[str, dict[str, str]] = {}
    for name, (collection, kind) in parts.items():
        groups.setdefault(collection, {})[kind] = name
    if len(set(kinds)) == len(kinds):  # one collection, the names of which may begin differently
        groups = {"*": dict(zip(kinds, parts, strict=True))}
    return tuple(_collection(config, name, own, origin) for name, own in groups.items())


def jet_globals(config: DataConfig, origin: str) -> InputCollection | None:
    """Return the numbers of the jet itself among the inputs, as a collection with one particle; None: there are none.

    Args:
        config: weaver's data configuration.
        origin: where it comes from, for errors.

    Raises:
        DataError: there are several such groups, or one has a length.
    """
    names = [name for name in config.input_names if _split(name)[1] == _GLOBALS]
    if not names:
        return None
    if len(names) > 1:
        raise DataError(f"{origin}: {' and '.join(names)} hold numbers of the jet; put all into one group")
    _, channels, length = config.input_shapes[names[0]]
    if length is not None:
        raise DataError(
            f"{origin}: {names[0]} has length {length}, and *_globals hold one number per jet; make its length null"
        )
    return InputCollection(_GLOBALS, {"features": names[0]}, 1, channels, channels)


def _split(name: str) -> tuple[str, str]:
    collection, _, kind = name.rpartition("_")
    return collection, kind


def _collection(config: DataConfig, name: str, groups: Mapping[str, str], origin: str) -> InputCollection:
    if "features" not in groups:
        example = "for example pf_features" if name == "*" else f"or rename or remove {', '.join(groups.values())}"
        raise DataError(f"{origin}: there is no input group {name}_features; add one, {example}")
    channels = {kind: int(config.input_shapes[group][1]) for kind, group in groups.items()}
    for kind, expected in (("vectors", 4), ("mask", 1)):
        if channels.get(kind, expected) != expected:
            raise DataError(f"{origin}: {groups[kind]} has {channels[kind]} variables, it needs {expected}")
    lengths = {group: int(config.input_shapes[group][2]) for group in groups.values()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{group} {length}" for group, length in lengths.items())
        raise DataError(f"{origin}: the input groups differ in length ({listed}); give all the same")
    ordered = {kind: groups[kind] for kind in KINDS if kind in groups}
    length = lengths[groups["features"]]
    name = _split(groups["features"])[0] if name == "*" else name
    return InputCollection(name, ordered, length, channels["features"], sum(channels.values()))


def targets_in(config: DataConfig) -> dict[str, str]:
    """Return the expression of each number that is predicted beside the class, by name; usually there are none."""
    given: Mapping[str, str] = config.options["labels"].get("targets") or {}
    return dict(given)
