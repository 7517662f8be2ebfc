"""Forms that a weaver data YAML may have beside the usual ones, brought into the usual ones.

weaver takes keys without a value, ``pad_mode`` in upper case, numbers that YAML reads as text (``1e-3``) and entries of
a variable after the sixth, which it ignores. Labels of type ``custom`` with one value are whole numbers there: the
number of the class. Here they become one label for each class.

Forks of weaver have labels of type ``hybrid``, classes and numbers to predict. They become classes with ``targets``
where the section says which entries are the classes and which the numbers.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from phaze_ee.errors import DataError

ENTRIES = 6  # of a variable: name, center, scale, min, max, pad_value
# Keys of labels of type hybrid, alone or as value_cls; beside targets under value_custom, value has the classes.
_CLASSES = re.compile(r"value|(value_)?(cls|class|classes|classification)")
_OF_TARGETS = ("targets", "target_scales")
_TARGETS = re.compile(r"value_custom|(value_)?(reg|regression|target|targets)")
_NUMBER, _NAMES = "value_cls_index", "value_cls_names"  # in place of the classes: the number of the class, and names


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
    if isinstance(usual.get("labels"), Mapping):
        usual["labels"] = _with_targets(_without_hybrid(usual["labels"]))
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


def _without_hybrid(labels: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return labels of type ``hybrid`` as classes with targets, where their keys say what is what; else as they are."""
    if labels.get("type") != "hybrid":
        return labels
    value = labels.get("value")
    parts = value if isinstance(value, Mapping) else {key: part for key, part in labels.items() if key != "type"}
    if {_NUMBER, _NAMES} <= parts.keys():
        own = {"type": "custom", "value": {"class_number": parts[_NUMBER]}, "names": parts[_NAMES]}
        return {**own, "targets": parts.get("value_custom")}
    classes = [part for key, part in parts.items() if _CLASSES.fullmatch(str(key))]
    targets = [part for key, part in parts.items() if _TARGETS.fullmatch(str(key))]
    if len(parts) != 2 or len(classes) != 1 or len(targets) != 1 or not isinstance(classes[0], list):
        return labels
    return {"type": "simple", "value": classes[0], "targets": targets[0]}


def _with_targets(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Return labels with ``targets`` as a mapping from names to expressions, in alphabetical order."""
    targets = labels.get("targets")
    if isinstance(targets, list) and all(isinstance(name, str) for name in targets):
        targets = {name: name for name in targets}
    if isinstance(targets, Mapping) and all(isinstance(name, str) for name in targets):
        targets = dict(sorted(targets.items()))
    kept = {name: part for name, part in labels.items() if name != "targets"}
    return {**kept, "targets": targets} if targets else kept


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
    kept = {name: part for name, part in labels.items() if name in _OF_TARGETS}
    value = [f"{key} == {number}" for number in range(count)]
    options["labels"] = {"type": "simple", "value": value, "names": names, **kept}
