"""The format of a weaver data YAML: sections, keys and types, checked before weaver reads it."""

import math
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from pydantic_core import PydanticCustomError

from phaze_ee.data.evaluation import names_in
from phaze_ee.data.expressions import check_expression, parse_expression
from phaze_ee.data.weights_section import WeightsSection, weights_problem
from phaze_ee.data.yaml_forms import ENTRIES, is_class_number
from phaze_ee.errors import DataError

# name, center, scale, min, max, pad_value: trailing ones may be left out
Length = Annotated[int, Field(gt=0, strict=True)]  # weaver makes arrays of this size, so 8.5 is refused
Variable = Annotated[list[Any], Field(min_length=1, max_length=ENTRIES)]
_MOST_BYTES, _MOST_VALUES = 20_000_000, 1_000_000  # far more than the histograms of a reweighting need
_LARGEST = 3.4028234663852886e38  # of single precision
_SHOWN = 40  # characters of a wrong value
_REGRESSIONS = ("hybrid", "regression")  # labels of networks that predict numbers: those of forks of weaver
_DEFAULTS: dict[str, Any] = {"center": None, "scale": 1, "min": -5, "max": 5, "pad_value": 0}  # weaver's


def _single(value: float) -> float:
    """Refuse numbers that only double precision holds: weaver standardises in single precision."""
    if math.isfinite(value) and abs(value) > _LARGEST:
        raise PydanticCustomError("single", "Input should fit single precision (at most 3.4e38, or .inf for no limit)")
    return value


_Single = Annotated[FiniteFloat, AfterValidator(_single)]
_Limit = Annotated[float, Field(ge=-math.inf), AfterValidator(_single)]  # may be infinite; NaN is ruled out


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Standardisation(_Section):
    """How a variable is standardised: (value - center) * scale, clipped to min … max."""

    center: _Single | Literal["auto"] | None
    scale: _Single
    min: _Limit
    max: _Limit
    pad_value: _Single


class _Parameters(_Standardisation):
    length: Length | None  # None: one number per jet
    pad_mode: Literal["wrap", "constant"]


def _known_method(method: str) -> str:
    """Refuse what weaver would take for ``manual`` in silence."""
    if method.lower() != "manual" and not method.lower().startswith("auto"):
        raise PydanticCustomError("method", "Input should be manual or auto: weaver takes any other word for manual")
    return method


class _Preprocess(_Section):
    method: Annotated[str, AfterValidator(_known_method)] = "manual"
    data_fraction: Annotated[float, Field(gt=0, le=1)] = 0.1
    params: dict[str, _Parameters] | None = None


class _InputGroup(_Section):
    length: Length | None  # None: one number per jet
    pad_mode: Literal["wrap", "constant"] = "constant"
    vars: list[str | Variable] = Field(min_length=1)


class _TargetScale(_Section):
    """What a target is standardised with: (value - center) / spread."""

    center: FiniteFloat
    spread: Annotated[FiniteFloat, Field(gt=0)]


def _several(labels: list[str]) -> list[str]:
    if len(labels) < 2:
        raise PydanticCustomError(
            "classes", "a classifier needs two classes or more, of which an expression may be one: [is_b, 1 - is_b]"
        )
    return labels


class _Labels(_Section):
    type: Literal["simple"]
    value: Annotated[list[str], AfterValidator(_several)]
    names: list[str] | None = None  # of the classes; otherwise the texts of ``value``
    targets: dict[str, str] | None = None  # numbers that are predicted too, by name
    target_scales: dict[str, _TargetScale] | None = None


class _WeaverYaml(_Section):
    treename: str | None = None
    branch_magic: dict[str, str] | None = None
    file_magic: dict[str, dict[str, float]] | None = None
    selection: str | None = None
    test_time_selection: str | None = None
    preprocess: _Preprocess | None = None
    new_variables: dict[str, str] | None = None
    inputs: dict[str, _InputGroup]
    labels: _Labels
    observers: list[str] | None = None
    monitor_variables: list[str] | None = None
    weights: WeightsSection | None = None
    bucketing: dict[str, Any] | None = None  # has no effect


def read_options(path: Path) -> dict[str, Any]:
    """Return the content of a weaver data YAML as plain values.

    Raises:
        DataError: the file cannot be read, or is not a YAML mapping.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"data config {path} has more than {_MOST_BYTES:,} bytes; is this really a data config?")
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not _is_small(options):
            raise DataError(f"data config {path} has more than {_MOST_VALUES:,} values; check its YAML aliases")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read data config {path}: {error}") from error
    except RecursionError as error:
        raise DataError(f"data config {path} is nested too deeply; correct its brackets") from error
    except yaml.YAMLError as error:
        raise DataError(f"{_yaml_problem(path, error)}; correct the indentation or syntax there") from error
    if not isinstance(options, dict):
        raise DataError(f"data config {path} holds no sections (inputs, labels, …)")
    return options


def _is_small(value: Any) -> bool:
    """Return whether a YAML has at most ``_MOST_VALUES`` values. Aliases count again: a few lines can make billions."""
    todo, seen = [value], 0
    while todo and seen <= _MOST_VALUES:
        value = todo.pop()
        seen += 1
        if isinstance(value, Mapping | list):
            todo.extend(value.values() if isinstance(value, Mapping) else value)
    return seen <= _MOST_VALUES


def texts_in(value: Any) -> frozenset[str]:
    """Return all texts in nested lists and mappings, the expressions of a configuration among them."""
    if isinstance(value, str):
        return frozenset({value})
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return frozenset().union(*map(texts_in, inner))


def _yaml_problem(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)  # None if a character is not allowed at all
    if mark is None:
        return f"data config {path} is not valid YAML: {getattr(error, 'reason', type(error).__name__)}"
    return f"data config {path}:{mark.line + 1}: not valid YAML: {getattr(error, 'problem', 'not understood')}"


def check_options(options: Mapping[str, Any], origin: str, trusted: Collection[str] = ()) -> None:
    """Check sections, keys, types and expressions of a weaver data configuration.

    All expressions that weaver may evaluate pass through here.

    Args:
        options: the content of a weaver data YAML.
        origin: where it comes from, for errors.
        trusted: expressions that may be any Python.

    Raises:
        DataError: with the first problem and its place.
    """
    found = _other_container(options)
    if found is not None:
        raise DataError(f"{origin}: {found} is no list or mapping; write it as in a YAML")
    try:
        _WeaverYaml.model_validate(options)
    except ValidationError as error:
        raise DataError(f"{origin}: {_first_problem(error, options)}") from error
    _check_groups(options, origin)
    _check_labels(options["labels"], origin)
    for name, expression in _expressions(options).items():
        check = parse_expression if expression in trusted else check_expression
        check(expression, f"{origin}: the expression of {name!r}")
    _check_acyclic(options, origin)
    problem = weights_problem(options["weights"]) if options.get("weights") else None
    if problem is not None:
        raise DataError(f"{origin}: {problem}")


def _other_container(value: Any, place: str = "") -> str | None:
    """Return where there is a tuple or a set, which pydantic takes for a list and weaver does not; None: nowhere."""
    if isinstance(value, tuple | set | frozenset):
        return f"{place.lstrip('.')} ({type(value).__name__})"
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    return next((found for key, part in inner if (found := _other_container(part, f"{place}.{key}"))), None)


def _check_groups(options: Mapping[str, Any], origin: str) -> None:
    parameters = (options.get("preprocess") or {}).get("params")
    if options["inputs"] and all(group["length"] is None for group in options["inputs"].values()):
        raise DataError(
            f"{origin}: no input group has a length, so the inputs are numbers of the jet alone; networks here take "
            "particles: add *_features with a length"
        )
    for name, group in options["inputs"].items():
        if group["length"] is None and not name.endswith("_globals"):
            raise DataError(
                f"{origin}: inputs.{name} has no length, so it holds one number per jet; call it *_globals, so that "
                "networks get it beside the particles, or remove it (observers keep such numbers)"
            )
        _check_variables(f"{origin}: inputs.{name}", group["vars"], parameters)


def _check_labels(labels: Mapping[str, Any], origin: str) -> None:
    values, names = labels["value"], labels.get("names")
    if len(set(values)) < len(values) or len(set(names or ())) < len(names or ()):
        raise DataError(f"{origin}: labels name a class twice; name each class once")
    if names is not None and len(names) != len(values):
        raise DataError(f"{origin}: labels.names has {len(names)} names for {len(values)} classes; name each class")
    targets, scales = labels.get("targets") or {}, labels.get("target_scales")
    if scales is not None and set(scales) != set(targets):
        raise DataError(f"{origin}: labels.target_scales must have center and spread of each target, or be left out")
    both = sorted(set(targets) & {*values, *(names or ())})
    if both:
        raise DataError(f"{origin}: {both[0]} is a class and a target; rename the target in labels.targets")


def _check_variables(origin: str, variables: Sequence[str | list[Any]], parameters: Mapping[str, Any] | None) -> None:
    for name, *given in ([own] if isinstance(own, str) else own for own in variables):
        if not isinstance(name, str):
            raise DataError(f"{origin}: {name!r} is not the name of a variable")
        if parameters is not None and name not in parameters:  # weaver takes all parameters from there, or none
            raise DataError(f"{origin}: preprocess.params has no entry for {name}; add it, or remove params")
        try:
            _Standardisation.model_validate({**_DEFAULTS, **dict(zip(_DEFAULTS, given, strict=False))})
        except ValidationError as error:
            problem = error.errors()[0]
            what = f"{problem['loc'][0]} of {name} cannot be used"
            raise DataError(f"{origin}: {what}: {problem['msg']}, not {_short(problem['input'])}") from error


def _first_problem(error: ValidationError, options: Mapping[str, Any]) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["loc"] == ("labels", "type"):
        return _label_problem(options["labels"])
    if problem["type"] == "extra_forbidden":
        near = get_close_matches(str(problem["loc"][-1]), list(_WeaverYaml.model_fields), n=1)
        hint = f"did you mean {near[0]!r}?" if near and len(problem["loc"]) == 1 else "remove or correct it"
        return f"unknown key {where!r}; {hint}"
    if problem["type"] == "missing":
        return f"section or key {where!r} is missing"
    if problem["type"] == "string_type" and problem["input"] is None:
        return f"{where} has no value; give it one (in braces, an expression with a comma needs quotes)"
    return f"{where}: {problem['msg']}, not {_short(problem['input'])}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _label_problem(labels: Mapping[str, Any]) -> str:
    kind, value = labels.get("type"), labels.get("value")
    start = f"labels of type {kind!r} are not supported"
    if kind in _REGRESSIONS:
        return (
            f"{start} in this form: networks here classify, and may predict numbers beside the class; write type: "
            "simple, value: [one-hot labels], targets: {name: expression}"
        )
    if is_class_number(labels):
        return (
            f"{start} without the number of classes: set c.num_classes if {next(iter(value or ()))} is the number of "
            "the class, 0 to num_classes - 1, or list labels.names; or list one-hot labels, type: simple"
        )
    if kind == "custom" and isinstance(value, Mapping):
        found = ", ".join(map(str, value)) or "none"
        return (
            f"{start} with other than one value, the number of the class (found: {found}); leave that one in value, or "
            "list one-hot labels, type: simple; write numbers to predict as labels.targets: {name: expression}"
        )
    return f"{start}; list one-hot labels, type: simple"


def _expressions(options: Mapping[str, Any]) -> dict[str, str]:
    """Return every expression of the configuration, by the name that errors give it."""
    sections = {name: options.get(name) for name in ("selection", "test_time_selection")}
    weights = options.get("weights") or {}
    labels = {f"label {value}": value for value in options["labels"]["value"]}
    targets = {f"target {name}": text for name, text in (options["labels"].get("targets") or {}).items()}
    base = {"reweight_basewgt": weights.get("reweight_basewgt")}
    factors = {f"weight {branch}": branch for branch in weights.get("weight_branches", [])}
    every = {**sections, **(options.get("new_variables") or {}), **labels, **targets, **base, **factors}
    return {name: expression for name, expression in every.items() if expression}


def _check_acyclic(options: Mapping[str, Any], origin: str) -> None:
    """Refuse variables that are defined through themselves: weaver would not end."""
    formulas = {name: text for name, text in (options.get("new_variables") or {}).items() if name != text}
    needs = {name: [other for other in names_in(text) if other in formulas] for name, text in formulas.items()}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        chain = " -> ".join(error.args[1])
        raise DataError(f"{origin}: new_variables are defined through themselves: {chain}; rename one") from error
