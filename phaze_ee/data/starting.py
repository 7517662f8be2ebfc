"""The data configuration of a training that starts from weights of an earlier one: those are of their own inputs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import CheckpointError

_CHOSEN = ("center", "scale", "min", "max")


def as_trained(schema: DataSchema, options: Mapping[str, Any], origin: str, *, same_classes: bool = True) -> DataSchema:
    """Return a data configuration whose automatic standardisation is that of an earlier training.

    The weights of that training expect inputs with its centres and scales, whatever the training files are now. Inputs
    go by their places: their names may be others, as those of another experiment. Where the numbers of inputs differ,
    so do the networks, and the schema is returned as it is.

    Args:
        schema: as the YAML file has it.
        options: those of the data configuration in the checkpoint.
        origin: the checkpoint, for errors.
        same_classes: whether the layer for the classes is that of the checkpoint too.

    Raises:
        CheckpointError: a class, a target or an input has another place than in the training of the weights.
        DataError: the options in the checkpoint are wrong.
    """
    trained = DataSchema.from_options(options, origin, schema.trusted, schema.bad_values)
    if same_classes:
        _check_places("labels", trained.class_names, schema.class_names, origin)
    by_name = "; names decide the places of targets: call them as in the training"
    _check_places("labels.targets", list(trained.targets), list(schema.targets), origin, by_name)
    pairs = list(_groups(trained, schema))
    if not all(len(theirs) == len(ours) for _, theirs, ours in pairs):
        return schema
    for group, theirs, ours in pairs:
        _check_places(group, theirs, ours, origin)
    if not schema.needs_input_scales:
        return schema
    params = dict(schema.weaver.preprocess_params)
    for _, theirs, ours in pairs:
        for old, name in zip(theirs, ours, strict=True):
            if params[name]["center"] == "auto":
                before = trained.weaver.preprocess_params[old]
                params[name] = {**params[name], **{key: before[key] for key in _CHOSEN}}
    return schema.with_options({"preprocess": {**(schema.options.get("preprocess") or {}), "params": params}})


def _groups(trained: DataSchema, now: DataSchema) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each group of the inputs that both have, by its name now, with the variables of both."""
    for theirs, ours in zip(trained.inputs, now.inputs, strict=False):
        for kind, name in ours.groups.items():
            if kind in theirs.groups:
                yield name, trained.weaver.input_dicts[theirs.groups[kind]], now.weaver.input_dicts[name]


def _check_places(section: str, theirs: Sequence[str], ours: Sequence[str], origin: str, remedy: str = "") -> None:
    places = {name: place for place, name in enumerate(theirs)}
    for place, name in enumerate(ours):
        if places.get(name, place) != place:
            raise CheckpointError(
                f"checkpoint {origin} was trained with {name} as number {places[name] + 1} of {section}, and it is "
                f"number {place + 1} in the data_config{remedy or f'; give {section} the order of the training'}: "
                f"{', '.join(theirs)}"
            )


def other_standardisation(schema: DataSchema, options: Mapping[str, Any], origin: str) -> str | None:
    """Return in words the first input or target of the same name that the YAML file means otherwise; None: none is.

    It may be in another unit, so this is no error.
    """
    trained = DataSchema.from_options(options, origin, schema.trusted, schema.bad_values)
    for name, text in schema.targets.items():
        if trained.targets.get(name, text) != text:
            return f"target {name} is {text} in the data_config, and was {trained.targets[name]}"
    theirs = trained.weaver.preprocess_params
    for name, own in schema.weaver.preprocess_params.items():
        if own["center"] == "auto" or name not in theirs:
            continue
        for key in _CHOSEN:
            if own[key] != theirs[name][key]:
                return f"{key} of {name} is {own[key]} in the data_config, and was {theirs[name][key]}"
    return None
