"""Forms that a weaver data YAML may have beside the usual ones, brought into the usual ones.

weaver takes keys without a value, ``pad_mode`` in upper case, numbers that YAML reads as text (``1e-3``) and entries of
a variable after the sixth, which it ignores. Labels of type ``custom`` with one value are whole numbers there: the
number of the class. Here they become one label for each class.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from phaze_ee.errors import DataError

ENTRIES = 6  # of a variable: name, center, scale, min, max, pad_value


def usual_form(
    options: Mapping[str, Any], class_count: int | None = None, origin: str = "data config"
) -> dict[str, Any]:
    """Return the options of a data YAML in the usual form. What is wrong stays, for the check that follows.

    Args:
        options: the content of a weaver data YAML.
        class_count: the number of classes K of labels that are the number of the class; None: that of ``labels.names``.
        origin: where the options come from, for errors.

    Raises:
        DataError: ``labels.names`` has another length than K.
    """
    usual = dict(options)
    for name in ("preprocess", "weights", "labels"):
        if isinstance(section := usual.get(name), Mapping):
            usual[name] = _without_empty(section)
    if isinstance(inputs := usual.get("inputs"), Mapping):
        usual["inputs"] = {name: _usual_group(group) for name, group in inputs.items()}
    params = usual.get("preprocess", {}).get("params") if isinstance(usual.get("preprocess"), Mapping) else None
    if isinstance(params, Mapping):
        usual["preprocess"]["params"] = {name: _usual_padding(own) for name, own in params.items()}
    if is_class_number(usual.get("labels")):
        _name_classes(usual, class_count, origin)
    return usual


def is_class_number(labels: Any) -> bool:
    """Return whether the section ``labels`` has one value, the number of the class."""
    return (
        isinstance(labels, Mapping)
        and labels.get("type") == "custom"
        and isinstance(value := labels.get("value"), Mapping)
        and len(value) == 1
        and all(isinstance(part, str) for pair in value.items() for part in pair)
    )


def _without_empty(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if value is not None}


def _usual_group(group: Any) -> Any:
    if not isinstance(group, Mapping):
        return group
    usual = _usual_padding({key: value for key, value in group.items() if value is not None or key == "length"})
    if isinstance(variables := usual.get("vars"), list):
        usual["vars"] = [_usual_variable(own) if isinstance(own, list) else own for own in variables]
    return usual


def _usual_padding(own: Any) -> Any:
    """Return a group, or the parameters of a variable, with ``pad_mode`` in lower case and a number as length."""
    if not isinstance(own, Mapping):
        return own
    mode, length = own.get("pad_mode"), own.get("length")
    usual = {**own, "pad_mode": mode.lower()} if isinstance(mode, str) else dict(own)
    whole = length.is_integer() if isinstance(length, float) else isinstance(length, str) and length.isdecimal()
    return {**usual, "length": int(length)} if whole else usual  # type: ignore[arg-type]


def _usual_variable(entries: list[Any]) -> list[Any]:
    return [*entries[:1], *map(_number, entries[1:ENTRIES])]


def _number(value: Any) -> Any:
    """Return the number of a text such as ``1e-3``, which has no point and is no number for YAML."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


def _name_classes(options: dict[str, Any], class_count: int | None, origin: str) -> None:
    """Replace a label that is the number of the class by one label for each class."""
    labels = options["labels"]
    (key, expression), *_ = labels["value"].items()
    names = labels.get("names")
    count = class_count or (len(names) if isinstance(names, list) else None)
    if count is None:
        return
    if names is not None and (not isinstance(names, list) or len(names) != count):
        raise DataError(f"{origin}: labels.names must be a list with the names of the {count} classes")
    if expression != key:  # as weaver, which ignores a new variable of that name
        options["new_variables"] = {**(options.get("new_variables") or {}), key: expression}
    names = [f"{key}_{number}" for number in range(count)] if names is None else names
    options["labels"] = {"type": "simple", "value": [f"{key} == {number}" for number in range(count)], "names": names}
