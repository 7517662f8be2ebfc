"""The section ``weights`` of a weaver data YAML: its keys, its numbers, and what is wrong with them."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

_VARIABLES = 2  # weaver's histograms have two axes
_WITH_NUMBERS = ("reweight_vars", "class_weights", "reweight_threshold", "reweight_hists")

_MOST_INTEGER = 2**63 - 1

Percent = Annotated[float, Field(ge=0, le=100)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Histogram = list[list[Weight]]


class WeightsSection(BaseModel):
    """The types of the section."""

    model_config = ConfigDict(extra="forbid")

    use_precomputed_weights: bool
    weight_branches: list[str] = []
    reweight_method: Literal["flat", "ref"] | None = None
    reweight_vars: dict[str, list[float]] = {}
    reweight_classes: list[str] = []
    class_weights: list[Weight] | None = None
    reweight_threshold: Percent = 10
    reweight_basewgt: str | None = None
    reweight_discard_under_overflow: bool = True
    reweight_hists: dict[str, Histogram] | None = None


def plain_weights(weights: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the section without keys that have no value, and with numbers in place of their texts.

    YAML reads ``1e4`` as a text; weaver needs a number. Other texts stay, for :class:`WeightsSection` to refuse.
    """
    if not isinstance(weights, Mapping):
        return weights
    given = {key: value for key, value in weights.items() if value is not None}
    return {key: _with_numbers(value) if key in _WITH_NUMBERS else value for key, value in given.items()}


def _with_numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    if isinstance(value, int) and abs(value) > _MOST_INTEGER:  # which NumPy cannot compare with a column
        return math.inf if value > 0 else -math.inf
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def weights_problem(weights: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a section that has the right types; None: nothing."""
    if weights["use_precomputed_weights"]:
        if not weights.get("weight_branches"):
            return "weights.weight_branches is missing (use_precomputed_weights is true)"
        return None
    return (
        _method_problem(weights)
        or _axes_problem(weights.get("reweight_vars", {}))
        or _classes_problem(weights)
        or _histograms_problem(weights)
    )


def _method_problem(weights: Mapping[str, Any]) -> str | None:
    return None if weights.get("reweight_method") else "weights.reweight_method is missing; give 'flat' or 'ref'"


def _axes_problem(axes: Mapping[str, Sequence[float]]) -> str | None:
    if len(axes) != _VARIABLES:
        hint = "; a variable with one wide bin changes nothing" if len(axes) == 1 else ""
        found = f", it has {', '.join(axes) or 'none'}"
        return f"weights.reweight_vars needs exactly two variables with their bin edges{found}{hint}"
    for name, edges in axes.items():
        where = f"weights.reweight_vars.{name}"
        if len(edges) < 2:
            return f"{where} has {len(edges)} edges; a bin needs two"
        if any(math.isnan(edge) for edge in edges):
            return f"{where} has an edge that is not a number; correct it"
        for low, high in pairwise(edges):
            if high <= low:
                return f"{where}: edge {high:g} comes after {low:g}; write the edges in rising order, each once"
    return None


def _classes_problem(weights: Mapping[str, Any]) -> str | None:
    classes, shares = weights.get("reweight_classes"), weights.get("class_weights")
    if not classes:
        return "weights.reweight_classes is missing"
    if len(set(classes)) < len(classes):
        return "weights.reweight_classes names a class twice; name each class once"
    if shares is not None and len(shares) != len(classes):
        return (
            f"weights.class_weights needs one number per reweight class ({len(classes)}: {', '.join(classes)}), it has "
            f"{len(shares)}"
        )
    if shares is not None and not any(shares):
        return "weights.class_weights are all 0, so that no jet is drawn; correct them"
    return None


def _histograms_problem(weights: Mapping[str, Any]) -> str | None:
    histograms = weights.get("reweight_hists")
    if not histograms:
        return None
    if set(histograms) != set(weights["reweight_classes"]):
        return (
            f"weights.reweight_hists has {', '.join(histograms)}, and weights.reweight_classes has "
            f"{', '.join(weights['reweight_classes'])}; remove reweight_hists, and they are computed from the training "
            "files"
        )
    shape = tuple(len(edges) - 1 for edges in weights["reweight_vars"].values())
    for name, histogram in histograms.items():
        rows = {len(row) for row in histogram}
        if rows != {shape[1]} or len(histogram) != shape[0]:
            found = np.asarray(histogram).shape if len(rows) == 1 else f"rows of {sorted(rows)}"
            return (
                f"weights.reweight_hists.{name} has not the {shape[0]} x {shape[1]} bins of weights.reweight_vars (but "
                f"{found}); remove reweight_hists, and they are computed from the training files"
            )
    return None
